package vae

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// Decode maps latents [batch, height, width, latent_channels], already divided by the scaling factor, to images
// [batch, 8·height, 8·width, out_channels], about [-1, 1] but not clamped.
func (c Config) Decode(p nn.Params, latents *Node) *Node {
	h := nn.Conv2D(p.In("post_quant_conv"), latents, c.LatentChannels, 1)
	return c.decoder(p.In("decoder"), h)
}

func (c Config) decoder(p nn.Params, x *Node) *Node {
	x.AssertRank(4)
	last := len(c.BlockOutChannels) - 1
	h := nn.Conv2D(p.In("conv_in"), x, c.BlockOutChannels[last], 3)
	h = c.middle(p.In("mid_block"), h)
	for i := range c.BlockOutChannels {
		block := p.At("up_blocks", i)
		for j := range c.LayersPerBlock + 1 {
			h = c.resnet(c.BlockOutChannels[last-i]).Forward(block.At("resnets", j), h, nil)
		}
		if i < last {
			h = nn.Upsample2D(block.At("upsamplers", 0), h, 2*h.Shape().Dim(1), 2*h.Shape().Dim(2))
		}
		block.Out(h)
	}
	h = nn.GroupNormSiLU(p.In("conv_norm_out"), h, c.NormNumGroups, normEps)
	h = p.In("conv_act").Out(h)
	return p.Out(nn.Conv2D(p.In("conv_out"), h, c.OutChannels, 3))
}
