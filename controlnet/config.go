// Package controlnet builds diffusers' ControlNetModel: a trainable copy of the UNet's encoder that reads a
// conditioning image and answers through zero convolutions (Zhang et al. 2023, arXiv:2302.05543).
package controlnet

import (
	"errors"
	"fmt"
	"maps"

	"limner/models/nn"
	"limner/models/unet"
)

// Config is the config.json of a ControlNetModel. Fields that the UNet has too mean what they mean there.
type Config struct {
	ClassName                        string     `json:"_class_name"`
	InChannels                       int        `json:"in_channels"`
	ConditioningChannels             int        `json:"conditioning_channels"`
	ConditioningEmbeddingOutChannels []int      `json:"conditioning_embedding_out_channels"`
	FlipSinToCos                     bool       `json:"flip_sin_to_cos"`
	FreqShift                        float64    `json:"freq_shift"`
	DownBlockTypes                   []string   `json:"down_block_types"`
	BlockOutChannels                 []int      `json:"block_out_channels"`
	LayersPerBlock                   int        `json:"layers_per_block"`
	CrossAttentionDim                int        `json:"cross_attention_dim"`
	AttentionHeadDim                 unet.Heads `json:"attention_head_dim"`
	NormNumGroups                    int        `json:"norm_num_groups"`
	NormEps                          float64    `json:"norm_eps"`
}

// FromUNet is the config of the ControlNet that goes with a UNet, with the given widths of the conditioning embedding;
// nil means diffusers' 16, 32, 96, 256.
func FromUNet(u unet.Config, embedding []int) Config {
	if embedding == nil {
		embedding = []int{16, 32, 96, 256}
	}
	return Config{
		ClassName: "ControlNetModel", InChannels: u.InChannels, ConditioningChannels: 3, ConditioningEmbeddingOutChannels: embedding,
		FlipSinToCos: u.FlipSinToCos, FreqShift: u.FreqShift, DownBlockTypes: u.DownBlockTypes, BlockOutChannels: u.BlockOutChannels,
		LayersPerBlock: u.LayersPerBlock, CrossAttentionDim: u.CrossAttentionDim, AttentionHeadDim: u.AttentionHeadDim,
		NormNumGroups: u.NormNumGroups, NormEps: u.NormEps,
	}
}

// ParseConfig decodes and checks a config.json.
func ParseConfig(raw []byte) (Config, error) {
	c := FromUNet(unet.Default(), nil)
	fixed := maps.Clone(unet.Fixed)
	fixed["controlnet_conditioning_channel_order"] = []string{`"rgb"`}
	fixed["global_pool_conditions"] = []string{"false"}
	if err := nn.DecodeConfig(raw, &c, fixed); err != nil {
		return Config{}, err
	}
	return c, c.Validate()
}

// Validate reports every field whose value cannot be built.
func (c Config) Validate() error {
	errs := []error{unet.ValidateEncoder(c.encoder())}
	if c.ConditioningChannels < 1 {
		errs = append(errs, fmt.Errorf("conditioning_channels: got %d, want at least 1", c.ConditioningChannels))
	}
	if len(c.ConditioningEmbeddingOutChannels) == 0 {
		errs = append(errs, errors.New("conditioning_embedding_out_channels: empty"))
	}
	for _, channels := range c.ConditioningEmbeddingOutChannels {
		if channels < 1 {
			errs = append(errs, fmt.Errorf("conditioning_embedding_out_channels: got %d, want at least 1", channels))
		}
	}
	return errors.Join(errs...)
}

// encoder is the UNet whose encoder the ControlNet copies.
func (c Config) encoder() unet.Config {
	return unet.Config{
		InChannels: c.InChannels, FlipSinToCos: c.FlipSinToCos, FreqShift: c.FreqShift, DownBlockTypes: c.DownBlockTypes,
		BlockOutChannels: c.BlockOutChannels, LayersPerBlock: c.LayersPerBlock, CrossAttentionDim: c.CrossAttentionDim,
		AttentionHeadDim: c.AttentionHeadDim, NormNumGroups: c.NormNumGroups, NormEps: c.NormEps,
	}
}

// CheckUNet says in which fields the ControlNet does not fit a UNet.
func (c Config) CheckUNet(u unet.Config) error {
	want := FromUNet(u, c.ConditioningEmbeddingOutChannels)
	var errs []error
	differ := func(field string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			errs = append(errs, fmt.Errorf("%s: the ControlNet has %v, the UNet %v", field, got, want))
		}
	}
	differ("in_channels", c.InChannels, want.InChannels)
	differ("block_out_channels", c.BlockOutChannels, want.BlockOutChannels)
	differ("down_block_types", c.DownBlockTypes, want.DownBlockTypes)
	differ("layers_per_block", c.LayersPerBlock, want.LayersPerBlock)
	differ("cross_attention_dim", c.CrossAttentionDim, want.CrossAttentionDim)
	return errors.Join(errs...)
}
