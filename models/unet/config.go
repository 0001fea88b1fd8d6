// Package unet builds diffusers' UNet2DConditionModel in the structures of Stable Diffusion 1.x, 2.x and XL, at any
// width.
package unet

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"limner/models/nn"
)

// Config is the config.json of a UNet2DConditionModel.
type Config struct {
	ClassName   string `json:"_class_name"`
	SampleSize  int    `json:"sample_size" list:"pair"` // height and width of the latents it was trained on
	InChannels  int    `json:"in_channels"`             // 9 for inpainting: latents, mask, latents of the masked image
	OutChannels int    `json:"out_channels"`            // of the latents
	Encoder
	UpBlockTypes []string `json:"up_block_types"`
}

// Encoder holds the fields that a ControlNetModel shares with the UNet whose encoder it copies.
type Encoder struct {
	FlipSinToCos      bool     `json:"flip_sin_to_cos"`
	FreqShift         float64  `json:"freq_shift"`
	DownBlockTypes    []string `json:"down_block_types"`
	BlockOutChannels  []int    `json:"block_out_channels"`
	LayersPerBlock    int      `json:"layers_per_block" list:"level"`
	CrossAttentionDim int      `json:"cross_attention_dim" list:"level"`
	AttentionHeadDim  PerLevel `json:"attention_head_dim"`           // the number of heads, in spite of its name
	TransformerLayers PerLevel `json:"transformer_layers_per_block"` // the depth of each transformer
	LinearProjection  bool     `json:"use_linear_projection"`        // around a transformer; else 1×1 convolutions
	UpcastAttention   bool     `json:"upcast_attention"`             // queries times keys in float32
	NormNumGroups     int      `json:"norm_num_groups"`
	NormEps           float64  `json:"norm_eps"`
	Dropout           float64  `json:"dropout,omitempty"` // of residual blocks when training: unsupported

	// AdditionEmbedType is "text_time" in SDXL, whose time embedding also takes the pooled text embeddings and six
	// numbers about the image, and nil elsewhere.
	AdditionEmbedType    *string `json:"addition_embed_type"`
	AdditionTimeEmbedDim *int    `json:"addition_time_embed_dim"`               // channels for each of the six numbers
	AdditionInputDim     *int    `json:"projection_class_embeddings_input_dim"` // pooled text and the six numbers
}

// textTime is the one supported value of addition_embed_type.
const textTime = "text_time"

// TimeIDs is the number of values that SDXL takes about an image: original height and width, crop top and left, target
// height and width.
const TimeIDs = 6

// PooledDim is the width of the pooled text embeddings that the network takes beside the text embeddings, or 0.
func (e Encoder) PooledDim() int {
	if e.AdditionEmbedType == nil {
		return 0
	}
	return *e.AdditionInputDim - TimeIDs**e.AdditionTimeEmbedDim
}

// PerLevel is a number for all levels, or one for each.
type PerLevel []int

// UnmarshalJSON accepts an integer or a list of integers; null leaves it as it is.
func (l *PerLevel) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	var one int
	if json.Unmarshal(raw, &one) == nil {
		*l = PerLevel{one}
		return nil
	}
	if json.Unmarshal(raw, (*[]int)(l)) != nil {
		return fmt.Errorf("got %.100s, want a whole number or a list of them", raw)
	}
	return nil
}

// MarshalJSON writes a single number as such.
func (l PerLevel) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]int(l))
}

// At is the number for a level.
func (l PerLevel) At(level int) int {
	if len(l) == 1 {
		return l[0]
	}
	return l[level]
}

// Fixed holds the fields of UNet2DConditionModel of which one value is supported; a ControlNetModel shares them.
var Fixed = nn.Fixed{
	"act_fn": {`"silu"`}, "center_input_sample": {"false"}, "downsample_padding": {"1"},
	"mid_block_scale_factor": {"1", "1.0"}, "mid_block_type": {`"UNetMidBlock2DCrossAttn"`},
	"dual_cross_attention": {"false"}, "only_cross_attention": {"false", "[false, …]"},
	"mid_block_only_cross_attention": {"false", "null"}, "resnet_time_scale_shift": {`"default"`},
	"resnet_skip_time_act": {"false"}, "resnet_out_scale_factor": {"1", "1.0"}, "time_embedding_type": {`"positional"`},
	"conv_in_kernel": {"3"}, "conv_out_kernel": {"3"}, "class_embeddings_concat": {"false"},
	"attention_type": {`"default"`},
	// Flax's two ways to compute the same.
	"use_memory_efficient_attention": {"true", "false"}, "split_head_dim": {"true", "false"},
}

// Unread are fields that nothing here reads: that of an addition_embed_type which is not supported.
var Unread = []string{"addition_embed_type_num_heads"}

// Default holds the values that diffusers gives to fields that a file leaves out.
func Default() Config {
	return Config{
		ClassName: "UNet2DConditionModel", SampleSize: 64, InChannels: 4, OutChannels: 4,
		Encoder: Encoder{
			FlipSinToCos: true,
			DownBlockTypes: []string{
				"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D",
			},
			BlockOutChannels: []int{320, 640, 1280, 1280}, LayersPerBlock: 2, CrossAttentionDim: 1280,
			AttentionHeadDim: PerLevel{8}, TransformerLayers: PerLevel{1}, NormNumGroups: 32, NormEps: 1e-5,
		},
		UpBlockTypes: []string{"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"},
	}
}

// ParseConfig decodes and checks a config.json.
func ParseConfig(raw []byte) (Config, error) {
	c := Default()
	if err := nn.DecodeConfig(raw, &c, Fixed, Unread...); err != nil {
		return Config{}, err
	}
	c.ClassName = nn.PyTorchClass(c.ClassName)
	return c, c.Validate()
}

// Validate reports every field whose value cannot be built.
func (c Config) Validate() error {
	errs := []error{c.Encoder.Validate()}
	if len(c.UpBlockTypes) != len(c.BlockOutChannels) {
		errs = append(errs, fmt.Errorf("up_block_types: %d entries for %d block_out_channels",
			len(c.UpBlockTypes), len(c.BlockOutChannels)))
	}
	for _, t := range c.UpBlockTypes[:min(len(c.UpBlockTypes), nn.MostLevels)] {
		if t != "UpBlock2D" && t != "CrossAttnUpBlock2D" {
			errs = append(errs, fmt.Errorf("up_block_types: got %q, supported: CrossAttnUpBlock2D, UpBlock2D", t))
		}
	}
	errs = append(errs, nn.OutOfRange(
		nn.Count{Field: "sample_size", Value: c.SampleSize, Most: nn.MostChannels},
		nn.Count{Field: "in_channels", Value: c.InChannels, Most: nn.MostChannels},
		nn.Count{Field: "out_channels", Value: c.OutChannels, Most: nn.MostChannels},
	)...)
	return errors.Join(errs...)
}

// Validate reports every field whose value cannot be built.
func (c Encoder) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	levels := len(c.BlockOutChannels)
	if err := nn.TooManyLevels("block_out_channels", levels); err != nil {
		return err
	}
	if len(c.DownBlockTypes) != levels {
		report("down_block_types: %d entries for %d block_out_channels", len(c.DownBlockTypes), levels)
	}
	for _, t := range c.DownBlockTypes[:min(len(c.DownBlockTypes), levels)] {
		if t != "DownBlock2D" && t != "CrossAttnDownBlock2D" {
			report("down_block_types: got %q, supported: CrossAttnDownBlock2D, DownBlock2D", t)
		}
	}
	errs = append(errs, nn.OutOfRange(
		nn.Count{Field: "layers_per_block", Value: c.LayersPerBlock, Most: nn.MostLayers},
		nn.Count{Field: "cross_attention_dim", Value: c.CrossAttentionDim, Most: nn.MostChannels},
		nn.Count{Field: "norm_num_groups", Value: c.NormNumGroups, Most: nn.MostChannels},
	)...)
	errs = append(errs, nn.CountsOutOfRange("block_out_channels", c.BlockOutChannels, nn.MostChannels)...)
	for _, f := range []struct {
		name   string
		values PerLevel
		most   int
	}{
		{"attention_head_dim", c.AttentionHeadDim, nn.MostChannels},
		{"transformer_layers_per_block", c.TransformerLayers, nn.MostLayers},
	} {
		if len(f.values) != 1 && len(f.values) != levels {
			report("%s: %d entries for %d block_out_channels", f.name, len(f.values), levels)
		}
		errs = append(errs, nn.CountsOutOfRange(f.name, f.values, f.most)...)
	}
	if !(c.NormEps >= 0 && c.NormEps <= 1) {
		report("norm_eps: got %g, want 0 to 1", c.NormEps)
	}
	if !(c.Dropout >= 0 && c.Dropout < 1) {
		report("dropout: got %g, want at least 0 and below 1", c.Dropout)
	}
	errs = append(errs, c.validateAddition()...)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	layers := 0
	for level, channels := range c.BlockOutChannels {
		layers += c.LayersPerBlock * (1 + c.TransformerLayers.At(level))
		if channels%c.NormNumGroups != 0 {
			report("block_out_channels: %d does not divide into norm_num_groups %d", channels, c.NormNumGroups)
		}
		if heads := c.AttentionHeadDim.At(level); channels%heads != 0 {
			report("attention_head_dim: %d channels do not divide over %d heads", channels, heads)
		}
	}
	if c.BlockOutChannels[0]%2 != 0 {
		report("block_out_channels: the first is %d, want an even number", c.BlockOutChannels[0])
	}
	if half := float64(c.BlockOutChannels[0] / 2); !(c.FreqShift >= 0 && c.FreqShift < half) {
		report("freq_shift: got %g, want 0 to less than %g, half of the first of block_out_channels", c.FreqShift, half)
	}
	if layers > nn.MostLayers {
		report("layers_per_block, transformer_layers_per_block: got %d layers in all levels, want at most %d",
			layers, nn.MostLayers)
	}
	return errors.Join(errs...)
}

// validateAddition checks the fields of SDXL's additional embedding.
func (c Encoder) validateAddition() []error {
	if c.AdditionEmbedType == nil {
		return nil
	}
	if *c.AdditionEmbedType != textTime {
		return []error{fmt.Errorf("addition_embed_type: got %q, supported: %s, null", *c.AdditionEmbedType, textTime)}
	}
	dim, most := c.AdditionTimeEmbedDim, nn.MostChannels
	if dim == nil || *dim < 2 || *dim > most || *dim%2 != 0 || !(c.FreqShift < float64(*dim/2)) {
		return []error{
			fmt.Errorf("addition_time_embed_dim: got %s, want an even number of at least 2 and at most %d, "+
				"and half of it above freq_shift, with addition_embed_type text_time", orNull(dim), most),
		}
	}
	if in, least := c.AdditionInputDim, TimeIDs**dim+1; in == nil || *in < least || *in > TimeIDs**dim+most {
		return []error{
			fmt.Errorf("projection_class_embeddings_input_dim: got %s, want at least %d and at most %d with "+
				"addition_embed_type text_time", orNull(in), least, TimeIDs**dim+most),
		}
	}
	return nil
}

// orNull formats a number that a file may leave out.
func orNull(n *int) string {
	if n == nil {
		return "null"
	}
	return strconv.Itoa(*n)
}
