package unet

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// Context is the network's inputs beside the sample and the timestep.
type Context struct {
	// Text is the text embeddings [batch, tokens, cross_attention_dim]. They are not read where the outputs of the
	// layers of ReadsText are given.
	Text *Node
	// Pooled and TimeIDs go into the time embedding where addition_embed_type is text_time, and are nil elsewhere: the
	// pooled text embeddings [batch, PooledDim] and original height and width, crop top and left, target height and
	// width, all in pixels: float32 [batch, 6].
	Pooled, TimeIDs *Node
}

// Residuals are what a ControlNet adds to the UNet: one for each skip connection, and one for the middle block.
type Residuals struct {
	Down []*Node // in the order of the encoder's outputs
	Mid  *Node
}

// Add is the sum of two ControlNets' residuals.
func (r *Residuals) Add(other *Residuals) *Residuals {
	sum := &Residuals{Mid: Add(r.Mid, other.Mid)}
	for i, x := range r.Down {
		sum.Down = append(sum.Down, Add(x, other.Down[i]))
	}
	return sum
}

// Map applies a function to each residual.
func (r *Residuals) Map(f func(*Node) *Node) *Residuals {
	mapped := &Residuals{Mid: f(r.Mid)}
	for _, x := range r.Down {
		mapped.Down = append(mapped.Down, f(x))
	}
	return mapped
}

// Forward predicts the noise (or v) in sample [batch, height, width, in_channels] at timesteps [batch], which may be
// fractional, given the context. residuals may be nil. The result is [batch, height, width, out_channels] in sample's
// dtype, which is the compute dtype. The context may have a multiple of the rows of sample and timesteps, which is then
// the result's batch: each sample is predicted for that many contexts in a row, and what does not depend on them is
// computed once.
func (c Config) Forward(p nn.Params, sample, timesteps *Node, context Context, residuals *Residuals) *Node {
	temb := c.TimeEmbedding(p, timesteps, context, sample.DType())
	h := nn.Conv2D(p.In("conv_in"), sample, c.BlockOutChannels[0], 3)
	skips := c.Encode(p, h, temb, context.Text)
	h = c.Middle(p, skips[len(skips)-1], temb, context.Text)
	if residuals != nil {
		for i := range skips {
			skips[i] = nn.AddRows(skips[i], residuals.Down[i])
		}
		h = Add(h, residuals.Mid)
	}
	h = c.decode(p, h, skips, temb, context.Text)
	h = nn.GroupNormSiLU(p.In("conv_norm_out"), h, c.NormNumGroups, c.NormEps)
	return nn.Conv2D(p.In("conv_out"), h, c.OutChannels, 3)
}

// TimeEmbedding maps timesteps [batch], with Pooled and TimeIDs of the context, to [batch, 4×block_out_channels[0]] in
// the given dtype.
func (c Encoder) TimeEmbedding(p nn.Params, timesteps *Node, context Context, dtype dtypes.DType) *Node {
	width := 4 * c.BlockOutChannels[0]
	features := nn.Timesteps(p.In("time_proj"), timesteps, c.BlockOutChannels[0], c.FlipSinToCos, c.FreqShift)
	temb := nn.TimestepEmbedding(p.In("time_embedding"), ConvertDType(features, dtype), width)
	if c.AdditionEmbedType == nil {
		return temb
	}
	ids := Reshape(context.TimeIDs, -1) // [batch·6]
	features = nn.Timesteps(p.In("add_time_proj"), ids, *c.AdditionTimeEmbedDim, c.FlipSinToCos, c.FreqShift)
	features = Reshape(features, context.TimeIDs.Shape().Dim(0), TimeIDs**c.AdditionTimeEmbedDim)
	added := Concatenate([]*Node{ConvertDType(context.Pooled, dtype), ConvertDType(features, dtype)}, -1)
	return nn.AddRows(temb, nn.TimestepEmbedding(p.In("add_embedding"), added, width))
}

// Encode runs the down blocks on h, the output of conv_in, and returns the skip connections: h itself, then the output
// of every layer and of every downsampler. The last one is the input of the middle block.
func (c Encoder) Encode(p nn.Params, h, temb, text *Node) []*Node {
	skips := []*Node{h}
	for level, blockType := range c.DownBlockTypes {
		block := p.At("down_blocks", level)
		resnet := nn.ResnetBlock{
			OutChannels: c.BlockOutChannels[level], NormGroups: c.NormNumGroups, NormEps: c.NormEps,
		}
		for i := range c.LayersPerBlock {
			h = resnet.Forward(block.At("resnets", i), h, temb)
			if blockType == "CrossAttnDownBlock2D" {
				h = c.transformer(level).Forward(block.At("attentions", i), h, text)
			}
			skips = append(skips, h)
		}
		if level < len(c.BlockOutChannels)-1 {
			h = nn.Downsample2D(block.At("downsamplers", 0), h, [2]int{1, 1})
			skips = append(skips, h)
		}
		block.Out(h)
	}
	return skips
}

// Middle is UNetMidBlock2DCrossAttn: h keeps its shape.
func (c Encoder) Middle(p nn.Params, h, temb, text *Node) *Node {
	mid := p.In("mid_block")
	last := len(c.BlockOutChannels) - 1
	resnet := nn.ResnetBlock{OutChannels: c.BlockOutChannels[last], NormGroups: c.NormNumGroups, NormEps: c.NormEps}
	h = resnet.Forward(mid.At("resnets", 0), h, temb)
	h = c.transformer(last).Forward(mid.At("attentions", 0), h, text)
	return mid.Out(resnet.Forward(mid.At("resnets", 1), h, temb))
}

// decode runs the up blocks, each layer on its input joined with the last skip connection not yet used.
func (c Config) decode(p nn.Params, h *Node, skips []*Node, temb, text *Node) *Node {
	last := len(c.BlockOutChannels) - 1
	for i, blockType := range c.UpBlockTypes {
		level := last - i
		block := p.At("up_blocks", i)
		resnet := nn.ResnetBlock{
			OutChannels: c.BlockOutChannels[level], NormGroups: c.NormNumGroups, NormEps: c.NormEps,
		}
		for j := range c.LayersPerBlock + 1 {
			skip := skips[len(skips)-1]
			skips = skips[:len(skips)-1]
			h, skip = nn.SameRows(h, skip)
			h = resnet.Forward(block.At("resnets", j), Concatenate([]*Node{h, skip}, -1), temb)
			if blockType == "CrossAttnUpBlock2D" {
				h = c.transformer(level).Forward(block.At("attentions", j), h, text)
			}
		}
		if level > 0 {
			next := skips[len(skips)-1].Shape()
			h = nn.Upsample2D(block.At("upsamplers", 0), h, next.Dim(1), next.Dim(2))
		}
		block.Out(h)
	}
	return h
}

func (c Encoder) transformer(level int) transformer2D {
	return transformer2D{
		heads: c.AttentionHeadDim.At(level), layers: c.TransformerLayers.At(level), normGroups: c.NormNumGroups,
		linear: c.LinearProjection, upcast: c.UpcastAttention,
	}
}
