package vae

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// Encode maps images [batch, height, width, in_channels] in [-1, 1] to the mean and the log variance of their latents,
// each [batch, height/8, width/8, latent_channels], rounded down; the log variance is clamped to [-30, 20].
func (c Config) Encode(p nn.Params, images *Node) (mean, logvar *Node) {
	h := nn.Conv2D(p.In("quant_conv"), c.encoder(p.In("encoder"), images), 2*c.LatentChannels, 1)
	mean = Slice(h, AxisRange(), AxisRange(), AxisRange(), AxisRange(0, c.LatentChannels))
	logvar = Slice(h, AxisRange(), AxisRange(), AxisRange(), AxisRange(c.LatentChannels))
	return mean, ClipScalar(logvar, -30, 20)
}

func (c Config) encoder(p nn.Params, x *Node) *Node {
	x.AssertRank(4)
	h := nn.Conv2D(p.In("conv_in"), x, c.BlockOutChannels[0], 3)
	for level, channels := range c.BlockOutChannels {
		block := p.At("down_blocks", level)
		for i := range c.LayersPerBlock {
			h = c.resnet(channels).Forward(block.At("resnets", i), h, nil)
		}
		if level < len(c.BlockOutChannels)-1 {
			// Unlike the UNet's, this downsampler pads below and to the right only.
			h = nn.Downsample2D(block.At("downsamplers", 0), h, [2]int{0, 1})
		}
		block.Out(h)
	}
	h = c.middle(p.In("mid_block"), h)
	h = nn.GroupNormSiLU(p.In("conv_norm_out"), h, c.NormNumGroups, normEps)
	h = p.In("conv_act").Out(h)
	return p.Out(nn.Conv2D(p.In("conv_out"), h, 2*c.LatentChannels, 3))
}

// middle is diffusers' UNetMidBlock2D: h keeps its shape.
func (c Config) middle(p nn.Params, h *Node) *Node {
	channels := h.Shape().Dim(-1)
	h = c.resnet(channels).Forward(p.At("resnets", 0), h, nil)
	h = c.attention(p.At("attentions", 0), h)
	return p.Out(c.resnet(channels).Forward(p.At("resnets", 1), h, nil))
}

// attention lets the pixels of x [batch, height, width, channels] attend to each other with one head, around a
// shortcut.
func (c Config) attention(p nn.Params, x *Node) *Node {
	n, height, width, channels := x.Shape().Dim(0), x.Shape().Dim(1), x.Shape().Dim(2), x.Shape().Dim(3)
	h := nn.GroupNorm(p.In("group_norm"), x, c.NormNumGroups, normEps)
	h = Reshape(h, n, height*width, channels)
	q := nn.Linear(p.In("to_q"), h, channels)
	k := nn.Linear(p.In("to_k"), h, channels)
	v := nn.Linear(p.In("to_v"), h, channels)
	h = nn.ScaledDotProduct(p, q, k, v, 1, nil)
	h = nn.Linear(p.In("to_out.0"), h, channels)
	return p.Out(Add(x, Reshape(h, n, height, width, channels)))
}

func (c Config) resnet(channels int) nn.ResnetBlock {
	return nn.ResnetBlock{OutChannels: channels, NormGroups: c.NormNumGroups, NormEps: normEps}
}
