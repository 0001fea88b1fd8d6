package sample

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/controlnet"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/sd"
	"limner/models/unet"
	"limner/sample/schedule"
	"limner/xla"
)

func (m Model) trees() trees {
	t := trees{
		encode: m.Pipeline.VAE.EncoderTree().Under(diffusers.VAE),
		decode: m.Pipeline.VAE.DecoderTree().Under(diffusers.VAE),
	}
	networks := m.Pipeline.UNet.Tree().Under(diffusers.UNet)
	for _, e := range m.encoders() {
		t.text = append(t.text, slices.Concat(m.Added.Tree(e.Encoder), m.Added[e.Name])...)
	}
	for i, c := range m.ControlNets {
		embedding := ControlNetName(i) + "." + controlnet.Embedding
		var of nn.Tree
		for _, spec := range c.Tree().Under(ControlNetName(i)) {
			if strings.HasPrefix(spec.Key, embedding+".") {
				of = append(of, spec)
			} else {
				networks = append(networks, spec)
			}
		}
		t.conditions = append(t.conditions, of)
	}
	for _, spec := range append(networks, m.loraTree(diffusers.UNet)...) {
		if unet.ReadsText(spec.Key) {
			t.project = append(t.project, spec)
		} else {
			t.step = append(t.step, spec)
		}
	}
	t.projections = m.projectionsOf(t.project)
	t.text = append(t.text, m.loraTree(m.encoderNames()...)...)
	return t
}

// stepInputs are the inputs of the denoising step behind the parameters, as nodes.
type stepInputs struct {
	loras         *Node            // the scales of the LoRAs
	coefficients  *Node            // of the call
	noise         *Node            // unit normals, as the latents
	guidance      *Node            // guidance_scale and guidance_rescale
	conditioning  *Node            // the scale of each ControlNet
	context       unet.Context     // float32 [rows, …], but the text
	projections   map[string]*Node // of the text, by layer
	conditions    map[int]*Node    // by ControlNet at work: the embedding of its conditioning image
	mask          *Node            // float32 [batch, height/8, width/8, 1]: 1 where the image is painted anew
	known         *Node            // as the latents: those of the image, or with 9 channels of the image without what is painted anew
	knownNoise    *Node            // as the latents; nil with 9 channels
	knownSchedule *Node            // the factors of known and knownNoise after the call
}

// stepValues describe the inputs that unpack gives to stepInputs, in the order of its fields.
func (p *Pipeline) stepValues(key stepKey) []xla.Value {
	scalars := func(name string, n int) xla.Value {
		return xla.Value{Name: name, Shape: shapes.Make(dtypes.Float32, n)}
	}
	like := func(name string) xla.Value { v := p.latents(); v.Name = name; return v }
	values := []xla.Value{
		p.model.loraScales(), scalars("coefficients", schedule.CoefficientCount), like("noise"), scalars("guidance", 2),
		scalars("conditioning_scale", max(1, len(p.model.ControlNets))),
	}
	values = append(values, p.contextValues(key)...)
	values = append(values, p.projectedValues(p.projectionsAtWork(key.controls), key.projection())...)
	for i, c := range p.model.ControlNets {
		if key.controls>>i&1 == 1 {
			values = append(values, batch(fmt.Sprintf("condition_%d", i), p.model.Compute, p.shape.Batch, p.latentHeight(), p.latentWidth(), c.BlockOutChannels[0]))
		}
	}
	if key.masked {
		values = append(values, batch("mask", dtypes.Float32, p.shape.Batch, p.latentHeight(), p.latentWidth(), 1), like("known"))
		if !p.model.inpaints() {
			values = append(values, like("known_noise"), scalars("known_schedule", 2))
		}
	}
	return values
}

// unpack takes the nodes of stepValues.
func (p *Pipeline) unpack(key stepKey, nodes []*Node) stepInputs {
	next := func() *Node {
		node := nodes[0]
		nodes = nodes[1:]
		return node
	}
	in := stepInputs{
		loras: next(), coefficients: next(), noise: next(), guidance: next(), conditioning: next(),
		projections: map[string]*Node{}, conditions: map[int]*Node{},
	}
	if p.model.Pipeline.XL() {
		in.context.Pooled, in.context.TimeIDs = next(), next()
	}
	for _, layer := range p.projectionsAtWork(key.controls) {
		in.projections[layer.path] = next()
	}
	for i := range p.model.ControlNets {
		if key.controls>>i&1 == 1 {
			in.conditions[i] = next()
		}
	}
	if key.masked {
		in.mask, in.known = next(), next()
		if !p.model.inpaints() {
			in.knownNoise, in.knownSchedule = next(), next()
		}
	}
	return in
}

// stepFunction is one call of a schedule. It replaces latents float32 [batch, height/8, width/8, channels], and what
// the scheduler remembers in tensors like it. Its inputs are the parameters and stepValues.
func (p *Pipeline) stepFunction(key stepKey) xla.Function {
	tree, compute := p.trees.step, p.model.Compute
	f := xla.Function{Name: "denoise", Apart: true, State: []xla.Value{p.latents()}, Inputs: append(p.parameters(tree), p.stepValues(key)...)}
	for i := range schedule.Memories {
		v := p.latents()
		v.Name = fmt.Sprintf("memory_%d", i)
		f.State = append(f.State, v)
	}
	f.Build = func(_ *Graph, state, nodes []*Node) (next, outputs []*Node) {
		params, in := p.bind(tree, nodes), p.unpack(key, nodes[len(tree):])
		params = p.model.withLoRAs(params, in.loras).WithOutputs(in.projections)

		scaled, timesteps := networkInput(state[0], in.coefficients)
		scaled = ConvertDType(scaled, compute)
		residuals := p.residuals(key, params, in, scaled, timesteps)
		if p.model.inpaints() {
			scaled = Concatenate([]*Node{scaled, ConvertDType(in.mask, compute), ConvertDType(in.known, compute)}, -1)
		}
		output := p.model.Pipeline.UNet.Forward(params.In(diffusers.UNet), scaled, timesteps, in.context, residuals)
		output = ConvertDType(output, dtypes.Float32)
		if key.guidance {
			output = guide(output, Reshape(Slice(in.guidance, AxisElem(0))), rescale(key.rescale, in.guidance))
		}
		x, memory := schedulerStep(key.threshold, state[0], output, state[1:], in.noise, in.coefficients)
		if in.knownNoise != nil {
			x = keepKnown(x, in)
		}
		return append([]*Node{x}, memory...), nil
	}
	return f
}

// residuals adds up those of the ControlNets at work; nil if all rest.
func (p *Pipeline) residuals(key stepKey, params nn.Params, in stepInputs, scaled, timesteps *Node) *unet.Residuals {
	context, guessing := in.context, key.guidance && key.guess
	if guessing {
		context = conditional(context)
	}
	var controls []sd.Control
	for i, c := range p.model.ControlNets {
		if in.conditions[i] == nil {
			continue
		}
		controls = append(controls, sd.Control{
			Config: c, Name: ControlNetName(i), Embedding: in.conditions[i],
			Adjust: func(r *unet.Residuals) *unet.Residuals {
				return c.Scale(r, Reshape(Slice(in.conditioning, AxisElem(i))), key.guess)
			},
		})
	}
	total := sd.Residuals(params, controls, scaled, timesteps, context)
	if total != nil && guessing {
		total = total.Map(withUnconditionalZeros)
	}
	return total
}

// keepKnown puts the image, noised to where the latents are, where the mask is 0.
func keepKnown(x *Node, in stepInputs) *Node {
	factor := func(i int) *Node { return Reshape(Slice(in.knownSchedule, AxisElem(i))) }
	known := Add(Mul(in.known, factor(0)), Mul(in.knownNoise, factor(1)))
	return Add(Mul(OneMinus(in.mask), known), Mul(in.mask, x))
}

// contextValues are the inputs for what the network is told of the prompts beside the projections of their text.
func (p *Pipeline) contextValues(key stepKey) []xla.Value {
	m, rows := p.model.Pipeline, p.rows(key.guidance)
	if !m.XL() {
		return nil
	}
	return []xla.Value{batch("pooled", dtypes.Float32, rows, m.UNet.PooledDim()), batch("time_ids", dtypes.Float32, rows, unet.TimeIDs)}
}

// conditionFunction maps the conditioning images of a ControlNet float32 [batch, height, width, channels] in [0, 1] to
// their embedding [batch, height/8, width/8, block_out_channels[0]], which all steps and both halves of the guidance
// share.
func (p *Pipeline) conditionFunction(net int) xla.Function {
	tree, c := p.trees.conditions[net], p.model.ControlNets[net]
	return xla.Function{
		Name: "condition", Apart: true, Outputs: []xla.Sharding{xla.Batch},
		Inputs: append(p.parameters(tree), batch("conditions", dtypes.Float32, p.shape.Batch, p.shape.Height, p.shape.Width, c.ConditioningChannels)),
		Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			params := p.bind(tree, in).In(ControlNetName(net)).In(controlnet.Embedding)
			return nil, []*Node{c.CondEmbedding(params, ConvertDType(in[len(tree)], p.model.Compute))}
		},
	}
}

// encodeFunction maps an image of each device float32 [devices, height, width, 3] in [-1, 1] to the mean and the log
// variance of their latents float32 [devices, height/8, width/8, channels], unscaled: one of each, for the reasons of
// decodeFunction.
func (p *Pipeline) encodeFunction() xla.Function {
	tree := p.trees.encode
	return xla.Function{
		Name: "encode", Apart: true, Outputs: []xla.Sharding{xla.Batch, xla.Batch},
		Inputs: append(p.parameters(tree), batch("images", dtypes.Float32, p.backend.Devices(), p.shape.Height, p.shape.Width, 3)),
		Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			params := p.bind(tree, in)
			mean, logvar := p.model.Pipeline.VAE.Encode(params.In(diffusers.VAE), ConvertDType(in[len(tree)], p.model.Compute))
			return nil, []*Node{ConvertDType(mean, dtypes.Float32), ConvertDType(logvar, dtypes.Float32)}
		},
	}
}

// decodeFunction maps latents float32 [batch, height/8, width/8, channels] and the number of a row, of those on each
// device, to an image of each device: float32 [devices, height, width, 3] in [0, 1]. Several images at once take more
// memory, and compilers choose worse forms of convolutions for them.
func (p *Pipeline) decodeFunction() xla.Function {
	tree, n := p.trees.decode, len(p.trees.decode)
	return xla.Function{
		Name: "decode", Apart: true, Outputs: []xla.Sharding{xla.Batch},
		Inputs: append(p.parameters(tree), p.latents(), xla.Value{Name: "row", Shape: shapes.Make(dtypes.Int32)}),
		Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			zero := ZerosLike(in[n+1])
			latents := DynamicSlice(in[n], []*Node{in[n+1], zero, zero, zero}, append([]int{1}, in[n].Shape().Dimensions[1:]...))
			return nil, []*Node{p.decodeGraph(in, latents)}
		},
	}
}

// decodePieceFunction maps latents float32 [images, height/8, width/8, channels] to images float32 [images, height,
// width, 3] in [0, 1].
func (p *Pipeline) decodePieceFunction(k pieceKey) xla.Function {
	tree := p.trees.decode
	latents := batch("latents", dtypes.Float32, k.images, k.height, k.width, p.channels())
	return xla.Function{
		Name: "decode_piece", Apart: true, Inputs: append(p.parameters(tree), latents), Outputs: []xla.Sharding{xla.Batch},
		Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			return nil, []*Node{p.decodeGraph(in, in[len(tree)])}
		},
	}
}

// decodeGraph decodes latents to pixels in [0, 1]. in begins with the parameters.
func (p *Pipeline) decodeGraph(in []*Node, latents *Node) *Node {
	vae := p.model.Pipeline.VAE
	latents = DivScalar(latents, vae.ScalingFactor)
	images := vae.Decode(p.bind(p.trees.decode, in).In(diffusers.VAE), ConvertDType(latents, p.model.Compute))
	images = ConvertDType(images, dtypes.Float32)
	return ClipScalar(AddScalar(MulScalar(images, 0.5), 0.5), 0, 1)
}
