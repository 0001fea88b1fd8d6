package sample

import (
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/unet"
	"limner/xla"
)

// trees list what each program reads of the parameters.
type trees struct {
	text, step, decode nn.Tree
}

func (m Model) trees() trees {
	t := trees{
		text:   m.Pipeline.Text.Tree().Under(diffusers.TextEncoder),
		step:   m.Pipeline.UNet.Tree().Under(diffusers.UNet),
		decode: m.Pipeline.VAE.DecoderTree().Under(diffusers.VAE),
	}
	if m.ControlNet != nil {
		t.step = append(t.step, m.ControlNet.Tree().Under(diffusers.ControlNet)...)
	}
	return t
}

func (t trees) all() nn.Tree { return slices.Concat(t.text, t.step, t.decode) }

// rows is the number of text embeddings of a batch.
func (p *Pipeline) rows(guidance bool) int {
	if guidance {
		return 2 * p.shape.Batch
	}
	return p.shape.Batch
}

// textFunction maps token ids int32 [rows, tokens] to text embeddings [rows, tokens, cross_attention_dim] in the compute
// dtype.
func (p *Pipeline) textFunction(guidance bool) xla.Function {
	tree, text := p.trees.text, p.model.Pipeline.Text
	ids := batch("input_ids", dtypes.Int32, p.rows(guidance), p.model.Pipeline.Tokenizer.MaxLength())
	return xla.Function{
		Name: "encode_text", Inputs: append(parameters(tree), ids), Outputs: []xla.Sharding{xla.Batch},
		Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			params := nn.Bind(tree, in[:len(tree)])
			out := text.Forward(params.In(diffusers.TextEncoder), in[len(tree)], p.model.Compute)
			return nil, []*Node{out.LastHiddenState}
		},
	}
}

// stepFunction replaces latents float32 [batch, height/8, width/8, channels] by those of the next timestep. Its inputs are the
// text embeddings, the sampler's coefficients, the scales of guidance and of the ControlNet and, with a ControlNet, the
// conditioning images float32 [batch, height, width, channels].
func (p *Pipeline) stepFunction(guidance bool) xla.Function {
	tree, m, compute := p.trees.step, p.model.Pipeline, p.model.Compute
	f := xla.Function{
		Name:  "denoise",
		State: []xla.Value{p.latents()},
		Inputs: append(parameters(tree),
			batch("text", compute, p.rows(guidance), m.Tokenizer.MaxLength(), m.UNet.CrossAttentionDim),
			xla.Value{Name: "coefficients", Shape: shapes.Make(dtypes.Float32, coefficientCount)},
			xla.Value{Name: "guidance_scale", Shape: shapes.Make(dtypes.Float32)},
			xla.Value{Name: "conditioning_scale", Shape: shapes.Make(dtypes.Float32)}),
	}
	if c := p.model.ControlNet; c != nil {
		f.Inputs = append(f.Inputs, batch("conditions", dtypes.Float32, p.shape.Batch, p.shape.Height, p.shape.Width, c.ConditioningChannels))
	}
	f.Build = func(_ *Graph, state, in []*Node) (next, outputs []*Node) {
		params := nn.Bind(tree, in[:len(tree)])
		in = in[len(tree):]
		text, coefficients, guidanceScale, conditioningScale := in[0], in[1], in[2], in[3]
		both := func(x *Node) *Node {
			if guidance {
				return duplicate(x)
			}
			return x
		}
		x := both(ConvertDType(state[0], compute))
		timesteps := BroadcastToDims(Reshape(Slice(coefficients, AxisElem(0))), x.Shape().Dim(0)) // [rows]
		context := unet.Context{Text: text}
		var residuals *unet.Residuals
		if c := p.model.ControlNet; c != nil {
			cond := both(ConvertDType(in[4], compute))
			residuals = c.Forward(params.In(diffusers.ControlNet), x, timesteps, context, cond)
			residuals = c.Scale(residuals, conditioningScale, false)
		}
		prediction := m.UNet.Forward(params.In(diffusers.UNet), x, timesteps, context, residuals)
		prediction = ConvertDType(prediction, dtypes.Float32)
		if guidance {
			prediction = guide(prediction, guidanceScale)
		}
		return []*Node{p.sampler.Step(state[0], prediction, coefficients)}, nil
	}
	return f
}

// decodeFunction maps latents float32 [batch, height/8, width/8, channels] to images float32 [batch, height, width, 3] in [0, 1].
func (p *Pipeline) decodeFunction() xla.Function {
	tree, vae := p.trees.decode, p.model.Pipeline.VAE
	return xla.Function{
		Name: "decode", Inputs: append(parameters(tree), p.latents()), Outputs: []xla.Sharding{xla.Batch},
		Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			params := nn.Bind(tree, in[:len(tree)])
			latents := DivScalar(in[len(tree)], vae.ScalingFactor)
			images := vae.Decode(params.In(diffusers.VAE), ConvertDType(latents, p.model.Compute))
			images = ConvertDType(images, dtypes.Float32)
			return nil, []*Node{ClipScalar(AddScalar(MulScalar(images, 0.5), 0.5), 0, 1)}
		},
	}
}

func (p *Pipeline) latents() xla.Value {
	return batch("latents", dtypes.Float32, p.shape.Batch, p.latentHeight(), p.latentWidth(), p.channels())
}

func batch(name string, dtype dtypes.DType, dims ...int) xla.Value {
	return xla.Value{Name: name, Shape: shapes.Make(dtype, dims...), Sharding: xla.Batch}
}

// parameters are the inputs that bring a tree to a program.
func parameters(tree nn.Tree) []xla.Value {
	values := make([]xla.Value, len(tree))
	for i, spec := range tree {
		values[i] = xla.Value{Name: spec.Key, Shape: shapes.Make(dtypes.Float32, spec.Shape...)}
	}
	return values
}

// arguments are the arrays for parameters(tree), followed by others.
func (p *Pipeline) arguments(tree nn.Tree, others ...*xla.Array) []*xla.Array {
	args := make([]*xla.Array, 0, len(tree)+len(others))
	for _, spec := range tree {
		args = append(args, p.params[spec.Key])
	}
	return append(args, others...)
}
