// Package controlnet builds diffusers' ControlNetModel: a trainable copy of the UNet's encoder that reads a
// conditioning image and answers through zero convolutions (Zhang et al. 2023, arXiv:2302.05543).
package controlnet

import (
	"errors"
	"fmt"

	"limner/models/nn"
	"limner/models/unet"
)

// Config is the config.json of a ControlNetModel. Fields that the UNet has too mean what they mean there.
type Config struct {
	ClassName                        string `json:"_class_name"`
	InChannels                       int    `json:"in_channels"`
	ConditioningChannels             int    `json:"conditioning_channels"`
	ConditioningEmbeddingOutChannels []int  `json:"conditioning_embedding_out_channels"`
	ConditioningChannelOrder         string `json:"controlnet_conditioning_channel_order"` // rgb or bgr

	// GlobalPoolConditions replaces each residual by its mean over height and width.
	GlobalPoolConditions bool `json:"global_pool_conditions"`

	unet.Encoder
}

// FromUNet is the config of the ControlNet that goes with a UNet, with the given widths of the conditioning embedding;
// nil means diffusers' 16, 32, 96, 256.
func FromUNet(u unet.Config, embedding []int) Config {
	if embedding == nil {
		embedding = []int{16, 32, 96, 256}
	}
	c := Config{
		ClassName: "ControlNetModel", InChannels: u.InChannels, ConditioningChannels: 3,
		ConditioningEmbeddingOutChannels: embedding, ConditioningChannelOrder: "rgb", Encoder: u.Encoder,
	}
	c.Dropout = 0 // ControlNetModel has none
	return c
}

// ParseConfig decodes and checks a config.json.
func ParseConfig(raw []byte) (Config, error) {
	c := FromUNet(unet.Default(), nil)
	// sample_size, of Flax's configs, only sets the latents for initialising the parameters.
	if err := nn.DecodeConfig(raw, &c, unet.Fixed, append([]string{"sample_size"}, unet.Unread...)...); err != nil {
		return Config{}, err
	}
	c.ClassName = nn.PyTorchClass(c.ClassName)
	return c, c.Validate()
}

// Validate reports every field whose value cannot be built.
func (c Config) Validate() error {
	errs := []error{c.Encoder.Validate()}
	errs = append(errs, nn.OutOfRange(
		nn.Count{Field: "in_channels", Value: c.InChannels, Most: nn.MostChannels},
		nn.Count{Field: "conditioning_channels", Value: c.ConditioningChannels, Most: nn.MostChannels},
	)...)
	if order := c.ConditioningChannelOrder; order != "rgb" && order != "bgr" {
		errs = append(errs, fmt.Errorf("controlnet_conditioning_channel_order: got %q, supported: rgb, bgr", order))
	}
	if err := nn.TooManyLevels("conditioning_embedding_out_channels",
		len(c.ConditioningEmbeddingOutChannels)); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, nn.CountsOutOfRange("conditioning_embedding_out_channels", c.ConditioningEmbeddingOutChannels,
		nn.MostChannels)...)
	return errors.Join(errs...)
}

// depths are those of the transformers of each level.
func (c Config) depths() []int {
	var all []int
	for level := range c.BlockOutChannels {
		all = append(all, c.TransformerLayers.At(level))
	}
	return all
}

// CheckUNet fails with the fields in which the ControlNet does not fit a UNet. A ControlNet of 4 in_channels also fits
// the 9-channel inpainting UNet, whose first 4 channels are the latents.
func (c Config) CheckUNet(u unet.Config) error {
	want := FromUNet(u, c.ConditioningEmbeddingOutChannels)
	if c.InChannels == u.OutChannels {
		want.InChannels = u.OutChannels
	}
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
	if len(c.BlockOutChannels) == len(want.BlockOutChannels) {
		differ("transformer_layers_per_block", c.depths(), want.depths())
	}
	differ("cross_attention_dim", c.CrossAttentionDim, want.CrossAttentionDim)
	differ("width of the pooled text", c.PooledDim(), want.PooledDim())
	return errors.Join(errs...)
}
