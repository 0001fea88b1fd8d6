package controlnet

import (
	"math"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/models/unet"
)

// Forward computes the residuals for the UNet, unscaled: sample [batch, height, width, in_channels], timesteps [batch]
// and context as for the UNet, and the conditioning image [batch, 8·height, 8·width, conditioning_channels] in [0, 1],
// RGB. All in sample's dtype.
func (c Config) Forward(p nn.Params, sample, timesteps *Node, context unet.Context, cond *Node) *unet.Residuals {
	return c.ForwardEmbedded(p, sample, timesteps, context, c.CondEmbedding(p.In(Embedding), cond))
}

// Embedding is the key below which CondEmbedding's parameters lie.
const Embedding = "controlnet_cond_embedding"

// ForwardEmbedded is Forward after CondEmbedding: it takes the conditioning image's embedding [batch, height, width,
// block_out_channels[0]], which is the same at all timesteps. The context may have a multiple of the rows: see
// unet.Config.Forward. The first residual has as many rows as sample.
func (c Config) ForwardEmbedded(p nn.Params, sample, timesteps *Node, context unet.Context,
	embedding *Node) *unet.Residuals {
	temb := c.TimeEmbedding(p, timesteps, context, sample.DType())
	h := nn.Conv2D(p.In("conv_in"), sample, c.BlockOutChannels[0], 3)
	h = Add(h, embedding)
	skips := c.Encode(p, h, temb, context.Text)
	mid := c.Middle(p, skips[len(skips)-1], temb, context.Text)

	r := &unet.Residuals{}
	for i, skip := range skips {
		r.Down = append(r.Down, nn.ZeroConv2D(p.At("controlnet_down_blocks", i), skip, skip.Shape().Dim(-1)))
	}
	r.Mid = nn.ZeroConv2D(p.In("controlnet_mid_block"), mid, mid.Shape().Dim(-1))
	return r
}

// CondEmbedding is diffusers' ControlNetConditioningEmbedding: it brings cond [batch, 8·height, 8·width, channels] to
// the size and width of the UNet's first features, halving the size once for each width after the first.
func (c Config) CondEmbedding(p nn.Params, cond *Node) *Node {
	widths := c.ConditioningEmbeddingOutChannels
	if c.ConditioningChannelOrder == "bgr" {
		cond = Reverse(cond, -1)
	}
	h := nn.SiLU(nn.Conv2D(p.In("conv_in"), cond, widths[0], 3))
	for i := range len(widths) - 1 {
		h = nn.SiLU(nn.Conv2D(p.At("blocks", 2*i), h, widths[i], 3))
		h = nn.SiLU(nn.Conv2DStrided(p.At("blocks", 2*i+1), h, widths[i+1], 3, 2, [2]int{1, 1}))
	}
	return p.Out(nn.ZeroConv2D3x3(p.In("conv_out"), h, c.BlockOutChannels[0]))
}

// Stride is the number of pixels of the conditioning image per latent, each way.
func (c Config) Stride() int { return 1 << (len(c.ConditioningEmbeddingOutChannels) - 1) }

// Scale multiplies the residuals by scale: a scalar for all, or a vector with one number for each, the middle block's
// last. In guess mode the scale also grows from 0.1 at the first skip connection to 1 at the middle block, evenly in
// the logarithm. With global_pool_conditions there is no guess mode, and each residual is replaced by its mean over
// height and width.
func (c Config) Scale(r *unet.Residuals, scale *Node, guessMode bool) *unet.Residuals {
	times := func(x *Node, i int) *Node {
		s := scale
		if s.Rank() == 1 {
			s = Reshape(Slice(s, AxisElem(i)))
		}
		if guessMode && !c.GlobalPoolConditions {
			s = MulScalar(s, math.Pow(10, float64(i)/float64(len(r.Down))-1))
		}
		x = Mul(x, ConvertDType(s, x.DType()))
		if c.GlobalPoolConditions {
			x = ReduceAndKeep(x, ReduceMean, 1, 2)
		}
		return x
	}
	scaled := &unet.Residuals{Mid: times(r.Mid, len(r.Down))}
	for i, x := range r.Down {
		scaled.Down = append(scaled.Down, times(x, i))
	}
	return scaled
}
