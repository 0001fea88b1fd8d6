// Package vae builds diffusers' AutoencoderKL, which maps images to latents an eighth of their size and back.
package vae

import (
	"errors"
	"fmt"

	"limner/models/nn"
)

// Config is the config.json of an AutoencoderKL.
type Config struct {
	ClassName        string   `json:"_class_name"`
	SampleSize       int      `json:"sample_size" list:"pair"` // height and width of the images it was trained on
	InChannels       int      `json:"in_channels"`
	OutChannels      int      `json:"out_channels"`
	DownBlockTypes   []string `json:"down_block_types"`
	UpBlockTypes     []string `json:"up_block_types"`
	BlockOutChannels []int    `json:"block_out_channels"`
	LayersPerBlock   int      `json:"layers_per_block"`
	LatentChannels   int      `json:"latent_channels"`
	NormNumGroups    int      `json:"norm_num_groups"`
	ScalingFactor    float64  `json:"scaling_factor"` // latents are multiplied by it before the UNet sees them
}

var fixed = nn.Fixed{
	"act_fn": {`"silu"`}, "force_upcast": {"true", "false"}, "mid_block_add_attention": {"true"},
	"use_quant_conv": {"true"}, "use_post_quant_conv": {"true"}, "shift_factor": {"0", "0.0", "null"},
}

// normEps is the epsilon of every norm in the VAE; no config field sets it.
const normEps = 1e-6

// Default holds the values that diffusers gives to fields that a file leaves out. Some Stable Diffusion 1.5 files
// leave out the scaling factor.
func Default() Config {
	return Config{
		ClassName: "AutoencoderKL", SampleSize: 32, InChannels: 3, OutChannels: 3,
		DownBlockTypes: []string{"DownEncoderBlock2D"}, UpBlockTypes: []string{"UpDecoderBlock2D"},
		BlockOutChannels: []int{64}, LayersPerBlock: 1, LatentChannels: 4, NormNumGroups: 32, ScalingFactor: 0.18215,
	}
}

// ParseConfig decodes and checks a config.json.
func ParseConfig(raw []byte) (Config, error) {
	c := Default()
	if err := nn.DecodeConfig(raw, &c, fixed); err != nil {
		return Config{}, err
	}
	c.ClassName = nn.PyTorchClass(c.ClassName)
	return c, c.Validate()
}

// Scale is the number of pixels per latent, each way.
func (c Config) Scale() int { return 1 << (len(c.BlockOutChannels) - 1) }

// Validate reports every field whose value cannot be built.
func (c Config) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	levels := len(c.BlockOutChannels)
	if err := nn.TooManyLevels("block_out_channels", levels); err != nil {
		return err
	}
	if len(c.DownBlockTypes) != levels || len(c.UpBlockTypes) != levels {
		report("down_block_types, up_block_types: %d and %d entries for %d block_out_channels",
			len(c.DownBlockTypes), len(c.UpBlockTypes), levels)
	}
	for _, t := range c.DownBlockTypes[:min(len(c.DownBlockTypes), levels)] {
		if t != "DownEncoderBlock2D" {
			report("down_block_types: got %q, supported: DownEncoderBlock2D", t)
		}
	}
	for _, t := range c.UpBlockTypes[:min(len(c.UpBlockTypes), levels)] {
		if t != "UpDecoderBlock2D" {
			report("up_block_types: got %q, supported: UpDecoderBlock2D", t)
		}
	}
	errs = append(errs, nn.OutOfRange(
		nn.Count{Field: "sample_size", Value: c.SampleSize, Most: nn.MostChannels},
		nn.Count{Field: "in_channels", Value: c.InChannels, Most: nn.MostChannels},
		nn.Count{Field: "out_channels", Value: c.OutChannels, Most: nn.MostChannels},
		nn.Count{Field: "layers_per_block", Value: c.LayersPerBlock, Most: nn.MostLayers / levels},
		nn.Count{Field: "latent_channels", Value: c.LatentChannels, Most: nn.MostChannels},
		nn.Count{Field: "norm_num_groups", Value: c.NormNumGroups, Most: nn.MostChannels},
	)...)
	errs = append(errs, nn.CountsOutOfRange("block_out_channels", c.BlockOutChannels, nn.MostChannels)...)
	for _, channels := range c.BlockOutChannels {
		if c.NormNumGroups > 0 && channels%c.NormNumGroups != 0 {
			report("block_out_channels: %d does not divide into norm_num_groups %d", channels, c.NormNumGroups)
		}
	}
	if !(c.ScalingFactor >= 1e-6 && c.ScalingFactor <= 1e6) {
		report("scaling_factor: got %g, want 1e-6 to 1e6", c.ScalingFactor)
	}
	return errors.Join(errs...)
}
