package sample

import (
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/unet"
	"limner/xla"
)

// trees list what each program reads of the parameters. lora are the matrices of LoRAs, which stand at the end of text and
// step as well.
type trees struct {
	text, step, decode nn.Tree
	lora               nn.Tree
}

func (m Model) trees() trees {
	t := trees{
		step:   m.Pipeline.UNet.Tree().Under(diffusers.UNet),
		decode: m.Pipeline.VAE.DecoderTree().Under(diffusers.VAE),
	}
	for _, e := range m.encoders() {
		t.text = append(t.text, e.config.Tree().Under(e.component)...)
	}
	if m.ControlNet != nil {
		t.step = append(t.step, m.ControlNet.Tree().Under(diffusers.ControlNet)...)
	}
	t.lora = m.loraTree(m.Pipeline.Components()...)
	t.step = append(t.step, m.loraTree(diffusers.UNet)...)
	t.text = append(t.text, m.loraTree(m.encoderNames()...)...)
	return t
}

// networks lists the parameters of the networks, without the LoRAs.
func (t trees) networks() nn.Tree {
	return slices.DeleteFunc(slices.Concat(t.text, t.step, t.decode), func(s nn.Spec) bool { return strings.HasPrefix(s.Key, "lora") })
}

// rows is the number of text embeddings of a batch.
func (p *Pipeline) rows(guidance bool) int {
	if guidance {
		return 2 * p.shape.Batch
	}
	return p.shape.Batch
}

// stepFunction replaces latents float32 [batch, height/8, width/8, channels] by those of the next timestep. Its inputs are the
// scales of the LoRAs, the sampler's coefficients, the scales of guidance and of the ControlNet, the text embeddings float32
// [rows, tokens, cross_attention_dim], in SDXL the pooled ones float32 [rows, PooledDim] and the time ids float32 [rows, 6],
// and with a ControlNet the conditioning images float32 [batch, height, width, channels].
func (p *Pipeline) stepFunction(key stepKey) xla.Function {
	tree, m, compute := p.trees.step, p.model.Pipeline, p.model.Compute
	f := xla.Function{
		Name:  "denoise",
		State: []xla.Value{p.latents()},
		Inputs: append(p.parameters(tree),
			p.model.loraScales(),
			xla.Value{Name: "coefficients", Shape: shapes.Make(dtypes.Float32, coefficientCount)},
			xla.Value{Name: "guidance_scale", Shape: shapes.Make(dtypes.Float32)},
			xla.Value{Name: "conditioning_scale", Shape: shapes.Make(dtypes.Float32)}),
	}
	f.Inputs = append(f.Inputs, p.contextValues(key)...)
	if c := p.model.ControlNet; c != nil {
		f.Inputs = append(f.Inputs, batch("conditions", dtypes.Float32, p.shape.Batch, p.shape.Height, p.shape.Width, c.ConditioningChannels))
	}
	f.Build = func(_ *Graph, state, in []*Node) (next, outputs []*Node) {
		params := nn.Bind(tree, in[:len(tree)])
		in = in[len(tree):]
		params = p.model.withLoRAs(params, in[0], diffusers.UNet)
		coefficients, guidanceScale, conditioningScale, in := in[1], in[2], in[3], in[4:]
		context := unet.Context{Text: ConvertDType(in[0], compute)}
		in = in[1:]
		if m.XL != nil {
			context.Pooled, context.TimeIDs, in = in[0], in[1], in[2:]
		}
		both := func(x *Node) *Node {
			if key.guidance {
				return duplicate(x)
			}
			return x
		}
		x := both(ConvertDType(state[0], compute))
		timesteps := BroadcastToDims(Reshape(Slice(coefficients, AxisElem(0))), x.Shape().Dim(0)) // [rows]
		var residuals *unet.Residuals
		if c := p.model.ControlNet; c != nil {
			cond := both(ConvertDType(in[0], compute))
			residuals = c.Forward(params.In(diffusers.ControlNet), x, timesteps, context, cond)
			residuals = c.Scale(residuals, conditioningScale, false)
		}
		prediction := m.UNet.Forward(params.In(diffusers.UNet), x, timesteps, context, residuals)
		prediction = ConvertDType(prediction, dtypes.Float32)
		if key.guidance {
			prediction = guide(prediction, guidanceScale)
		}
		return []*Node{p.sampler.Step(state[0], prediction, coefficients)}, nil
	}
	return f
}

// contextValues are the inputs for what the network is told of the prompts.
func (p *Pipeline) contextValues(key stepKey) []xla.Value {
	m, rows := p.model.Pipeline, p.rows(key.guidance)
	values := []xla.Value{batch("text", dtypes.Float32, rows, key.chunks*m.Tokenizer.MaxLength(), m.UNet.CrossAttentionDim)}
	if m.XL != nil {
		values = append(values,
			batch("pooled", dtypes.Float32, rows, m.UNet.PooledDim()),
			batch("time_ids", dtypes.Float32, rows, timeIDs))
	}
	return values
}

// timeIDs is how many numbers SDXL is told of an image's size.
const timeIDs = 6

// decodeFunction maps latents float32 [batch, height/8, width/8, channels] to images float32 [batch, height, width, 3] in [0, 1].
func (p *Pipeline) decodeFunction() xla.Function {
	tree, vae := p.trees.decode, p.model.Pipeline.VAE
	return xla.Function{
		Name: "decode", Inputs: append(p.parameters(tree), p.latents()), Outputs: []xla.Sharding{xla.Batch},
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
func (p *Pipeline) parameters(tree nn.Tree) []xla.Value {
	values := make([]xla.Value, len(tree))
	for i, spec := range tree {
		values[i] = xla.Value{Name: spec.Key, Shape: shapes.Make(p.model.Compute, spec.Shape...)}
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
