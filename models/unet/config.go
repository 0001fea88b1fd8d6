// Package unet builds diffusers' UNet2DConditionModel in the structure of Stable Diffusion 1.x, at any width.
package unet

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"limner/models/nn"
)

// Config is the config.json of a UNet2DConditionModel.
type Config struct {
	ClassName         string   `json:"_class_name"`
	SampleSize        int      `json:"sample_size"` // height and width of the latents it was trained on
	InChannels        int      `json:"in_channels"`
	OutChannels       int      `json:"out_channels"`
	FlipSinToCos      bool     `json:"flip_sin_to_cos"`
	FreqShift         float64  `json:"freq_shift"`
	DownBlockTypes    []string `json:"down_block_types"`
	UpBlockTypes      []string `json:"up_block_types"`
	BlockOutChannels  []int    `json:"block_out_channels"`
	LayersPerBlock    int      `json:"layers_per_block"`
	CrossAttentionDim int      `json:"cross_attention_dim"`
	AttentionHeadDim  Heads    `json:"attention_head_dim"` // the number of heads, in spite of its name
	NormNumGroups     int      `json:"norm_num_groups"`
	NormEps           float64  `json:"norm_eps"`
}

// Heads is a number of attention heads, one for all levels or one for each.
type Heads []int

// UnmarshalJSON accepts an integer or a list of integers.
func (h *Heads) UnmarshalJSON(raw []byte) error {
	var one int
	if json.Unmarshal(raw, &one) == nil {
		*h = Heads{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]int)(h))
}

// MarshalJSON writes a single number as such.
func (h Heads) MarshalJSON() ([]byte, error) {
	if len(h) == 1 {
		return json.Marshal(h[0])
	}
	return json.Marshal([]int(h))
}

// At is the number of heads of a level.
func (h Heads) At(level int) int {
	if len(h) == 1 {
		return h[0]
	}
	return h[level]
}

// Fixed holds the fields of UNet2DConditionModel of which one value is supported; a ControlNetModel shares them.
var Fixed = nn.Fixed{
	"act_fn": {`"silu"`}, "center_input_sample": {"false"}, "downsample_padding": {"1"}, "mid_block_scale_factor": {"1", "1.0"},
	"mid_block_type": {`"UNetMidBlock2DCrossAttn"`}, "dual_cross_attention": {"false"}, "only_cross_attention": {"false"},
	"use_linear_projection": {"false"}, "upcast_attention": {"false"}, "resnet_time_scale_shift": {`"default"`},
	"resnet_skip_time_act": {"false"}, "resnet_out_scale_factor": {"1", "1.0"}, "time_embedding_type": {`"positional"`},
	"conv_in_kernel": {"3"}, "conv_out_kernel": {"3"}, "class_embeddings_concat": {"false"}, "addition_embed_type_num_heads": {"64"},
	"transformer_layers_per_block": {"1"}, "attention_type": {`"default"`}, "dropout": {"0.0", "0"},
}

// Default holds the values that diffusers gives to fields that a file leaves out.
func Default() Config {
	return Config{
		ClassName: "UNet2DConditionModel", SampleSize: 64, InChannels: 4, OutChannels: 4, FlipSinToCos: true,
		DownBlockTypes:   []string{"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"},
		UpBlockTypes:     []string{"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"},
		BlockOutChannels: []int{320, 640, 1280, 1280}, LayersPerBlock: 2, CrossAttentionDim: 1280,
		AttentionHeadDim: Heads{8}, NormNumGroups: 32, NormEps: 1e-5,
	}
}

// ParseConfig decodes and checks a config.json.
func ParseConfig(raw []byte) (Config, error) {
	c := Default()
	if err := nn.DecodeConfig(raw, &c, Fixed); err != nil {
		return Config{}, err
	}
	return c, c.Validate()
}

// Validate reports every field whose value cannot be built.
func (c Config) Validate() error {
	errs := []error{ValidateEncoder(c)}
	if len(c.UpBlockTypes) != len(c.BlockOutChannels) {
		errs = append(errs, fmt.Errorf("up_block_types: %d entries for %d block_out_channels", len(c.UpBlockTypes), len(c.BlockOutChannels)))
	}
	for _, t := range c.UpBlockTypes {
		if t != "UpBlock2D" && t != "CrossAttnUpBlock2D" {
			errs = append(errs, fmt.Errorf("up_block_types: got %q, supported: CrossAttnUpBlock2D, UpBlock2D", t))
		}
	}
	if c.OutChannels < 1 {
		errs = append(errs, fmt.Errorf("out_channels: got %d, want at least 1", c.OutChannels))
	}
	return errors.Join(errs...)
}

// ValidateEncoder reports every bad field among those that a ControlNet shares with the UNet.
func ValidateEncoder(c Config) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	levels := len(c.BlockOutChannels)
	if levels == 0 {
		return errors.New("block_out_channels: empty")
	}
	if len(c.DownBlockTypes) != levels {
		bad("down_block_types: %d entries for %d block_out_channels", len(c.DownBlockTypes), levels)
	}
	for _, t := range c.DownBlockTypes {
		if t != "DownBlock2D" && t != "CrossAttnDownBlock2D" {
			bad("down_block_types: got %q, supported: CrossAttnDownBlock2D, DownBlock2D", t)
		}
	}
	errs = append(errs, nn.AtLeastOne(
		nn.Count{Field: "in_channels", Value: c.InChannels},
		nn.Count{Field: "layers_per_block", Value: c.LayersPerBlock},
		nn.Count{Field: "cross_attention_dim", Value: c.CrossAttentionDim},
		nn.Count{Field: "norm_num_groups", Value: c.NormNumGroups},
		nn.Count{Field: "block_out_channels", Value: slices.Min(c.BlockOutChannels)},
	)...)
	if len(c.AttentionHeadDim) != 1 && len(c.AttentionHeadDim) != levels {
		bad("attention_head_dim: %d entries for %d block_out_channels", len(c.AttentionHeadDim), levels)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for level, channels := range c.BlockOutChannels {
		if channels%c.NormNumGroups != 0 {
			bad("block_out_channels: %d does not divide into norm_num_groups %d", channels, c.NormNumGroups)
		}
		if heads := c.AttentionHeadDim.At(level); heads < 1 || channels%heads != 0 {
			bad("attention_head_dim: %d channels do not divide over %d heads", channels, heads)
		}
	}
	if c.BlockOutChannels[0]%2 != 0 {
		bad("block_out_channels: the first is %d, want an even number", c.BlockOutChannels[0])
	}
	return errors.Join(errs...)
}
