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
	"limner/xla/program"
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

// The names of the denoising step's arrays, beside its parameters. An output of a projection is named by its layer's
// path.
const (
	inputLatents      = "latents"
	inputLoRAs        = "lora_scales"
	inputCoefficients = "coefficients"       // of the call
	inputNoise        = "noise"              // unit normals, as the latents
	inputGuidance     = "guidance"           // guidance_scale and guidance_rescale
	inputConditioning = "conditioning_scale" // of each ControlNet
	inputPooled       = "pooled"
	inputTimeIDs      = "time_ids"
	inputMask         = "mask" // 1 where the image is painted anew
	// latents of the image, or with 9 channels of the image without what is painted anew
	inputKnown         = "known"
	inputKnownNoise    = "known_noise"    // as the latents; not with 9 channels
	inputKnownSchedule = "known_schedule" // the factors of known and known_noise after the call
)

// inputCondition is the embedding of a ControlNet's conditioning images, inputMemory what the scheduler remembers.
func inputCondition(net int) string { return fmt.Sprintf("condition_%d", net) }
func inputMemory(i int) string      { return fmt.Sprintf("memory_%d", i) }

// stepState describes what a step replaces: the latents float32 [batch, height/8, width/8, channels], and what the
// scheduler remembers in tensors like them.
func (p *Pipeline) stepState() []xla.Value {
	values := []xla.Value{p.latentsValue()}
	for i := range schedule.Memories {
		values = append(values, p.like(inputMemory(i)))
	}
	return values
}

// stepValues describe the inputs of a step behind the parameters.
func (p *Pipeline) stepValues(key stepKey) []xla.Value {
	scalars := func(name string, n int) xla.Value {
		return xla.Value{Name: name, Shape: shapes.Make(dtypes.Float32, n)}
	}
	values := []xla.Value{
		p.model.loraScales(), scalars(inputCoefficients, schedule.CoefficientCount), p.like(inputNoise),
		scalars(inputGuidance, 2), scalars(inputConditioning, max(1, len(p.model.ControlNets))),
	}
	values = append(values, p.contextValues(key)...)
	values = append(values, p.projectedValues(p.projectionsAtWork(key.controls), key.projection())...)
	for i, c := range p.model.ControlNets {
		if key.controls>>i&1 == 1 {
			values = append(values, batch(inputCondition(i), p.model.Compute, p.shape.Batch, p.latentHeight(),
				p.latentWidth(), c.BlockOutChannels[0]))
		}
	}
	if key.masked {
		values = append(values, batch(inputMask, dtypes.Float32, p.shape.Batch, p.latentHeight(), p.latentWidth(), 1),
			p.like(inputKnown))
		if !p.model.inpaints() {
			values = append(values, p.like(inputKnownNoise), scalars(inputKnownSchedule, 2))
		}
	}
	return values
}

// stepFunction is one call of a schedule: it replaces stepState.
func (p *Pipeline) stepFunction(key stepKey) program.Function {
	tree, compute := p.trees.step, p.model.Compute
	f := program.Function{
		Name: "denoise", Apart: true, State: p.stepState(), Inputs: append(p.parameters(tree), p.stepValues(key)...),
	}
	f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		latents, coefficients := in.Get(inputLatents), in.Get(inputCoefficients)
		params := p.model.withLoRAs(p.bind(tree, in), in.Get(inputLoRAs)).WithOutputs(in)

		scaled, timesteps := networkInput(latents, coefficients)
		scaled = ConvertDType(scaled, compute)
		residuals := p.residuals(key, params, in, scaled, timesteps)
		if p.model.inpaints() {
			mask, known := ConvertDType(in.Get(inputMask), compute), ConvertDType(in.Get(inputKnown), compute)
			scaled = Concatenate([]*Node{scaled, mask, known}, -1)
		}
		output := p.model.Pipeline.UNet.Forward(params.In(diffusers.UNet), scaled, timesteps, contextOf(in), residuals)
		output = ConvertDType(output, dtypes.Float32)
		if guidance := in.Get(inputGuidance); key.guidance {
			output = guide(output, Reshape(Slice(guidance, AxisElem(0))), rescale(key.rescale, guidance))
		}
		var memory []*Node
		for i := range schedule.Memories {
			memory = append(memory, in.Get(inputMemory(i)))
		}
		x, memory := schedulerStep(key.threshold, latents, output, memory, in.Get(inputNoise), coefficients)
		if in[inputKnownNoise] != nil {
			x = keepKnown(x, in)
		}
		next = program.Nodes{inputLatents: x}
		for i, m := range memory {
			next[inputMemory(i)] = m
		}
		return next, nil
	}
	return f
}

// contextOf is what the network is told of the prompts beside the projections of their text: nothing but in SDXL.
func contextOf(in program.Nodes) unet.Context {
	return unet.Context{Pooled: in[inputPooled], TimeIDs: in[inputTimeIDs]}
}

// residuals adds up those of the ControlNets at work; nil if all rest.
func (p *Pipeline) residuals(key stepKey, params nn.Params, in program.Nodes, scaled, timesteps *Node) *unet.Residuals {
	context, guessing := contextOf(in), key.guidance && key.guess
	if guessing {
		context = conditional(context)
	}
	var controls []sd.Control
	for i, c := range p.model.ControlNets {
		embedding := in[inputCondition(i)]
		if embedding == nil {
			continue
		}
		controls = append(controls, sd.Control{
			Config: c, Name: ControlNetName(i), Embedding: embedding,
			Adjust: func(r *unet.Residuals) *unet.Residuals {
				return c.Scale(r, Reshape(Slice(in.Get(inputConditioning), AxisElem(i))), key.guess)
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
func keepKnown(x *Node, in program.Nodes) *Node {
	factor := func(i int) *Node { return Reshape(Slice(in.Get(inputKnownSchedule), AxisElem(i))) }
	mask := in.Get(inputMask)
	known := Add(Mul(in.Get(inputKnown), factor(0)), Mul(in.Get(inputKnownNoise), factor(1)))
	return Add(Mul(OneMinus(mask), known), Mul(mask, x))
}

// contextValues are the inputs for what the network is told of the prompts beside the projections of their text.
func (p *Pipeline) contextValues(key stepKey) []xla.Value {
	m, rows := p.model.Pipeline, p.rows(key.guidance)
	if !m.XL() {
		return nil
	}
	return []xla.Value{
		batch(inputPooled, dtypes.Float32, rows, m.UNet.PooledDim()),
		batch(inputTimeIDs, dtypes.Float32, rows, unet.TimeIDs),
	}
}

// conditionFunction maps the conditioning images of a ControlNet float32 [batch, height, width, channels] in [0, 1] to
// their embedding [batch, height/8, width/8, block_out_channels[0]], which all steps and both halves of the guidance
// share.
func (p *Pipeline) conditionFunction(net int) program.Function {
	tree, c := p.trees.conditions[net], p.model.ControlNets[net]
	images := batch(inputImages, dtypes.Float32, p.shape.Batch, p.shape.Height, p.shape.Width, c.ConditioningChannels)
	return program.Function{
		Name: "condition", Apart: true, Inputs: append(p.parameters(tree), images),
		Outputs: rowsOf(inputCondition(net)),
		Build: func(in program.Nodes) (next, outputs program.Nodes) {
			params := p.bind(tree, in).In(ControlNetName(net)).In(controlnet.Embedding)
			embedding := c.CondEmbedding(params, ConvertDType(in.Get(inputImages), p.model.Compute))
			return nil, program.Nodes{inputCondition(net): embedding}
		},
	}
}

// The names of what the VAE's programs read and give back.
const (
	inputImages  = "images"
	inputRow     = "row"
	outputMean   = "mean"
	outputLogvar = "logvar"
	outputImages = "images"
)

// encodeFunction maps an image of each device float32 [devices, height, width, 3] in [-1, 1] to the mean and the log
// variance of their latents float32 [devices, height/8, width/8, channels], unscaled: one of each, for the reasons of
// decodeFunction.
func (p *Pipeline) encodeFunction() program.Function {
	tree := p.trees.encode
	images := batch(inputImages, dtypes.Float32, p.backend.Devices(), p.shape.Height, p.shape.Width, 3)
	return program.Function{
		Name: "encode", Apart: true, Inputs: append(p.parameters(tree), images),
		Outputs: rowsOf(outputMean, outputLogvar),
		Build: func(in program.Nodes) (next, outputs program.Nodes) {
			params, images := p.bind(tree, in), ConvertDType(in.Get(inputImages), p.model.Compute)
			mean, logvar := p.model.Pipeline.VAE.Encode(params.In(diffusers.VAE), images)
			mean, logvar = ConvertDType(mean, dtypes.Float32), ConvertDType(logvar, dtypes.Float32)
			return nil, program.Nodes{outputMean: mean, outputLogvar: logvar}
		},
	}
}

// decodeFunction maps latents float32 [batch, height/8, width/8, channels] and the number of a row, of those on each
// device, to an image of each device: float32 [devices, height, width, 3] in [0, 1]. Several images at once take more
// memory, and compilers choose worse forms of convolutions for them.
func (p *Pipeline) decodeFunction() program.Function {
	row := xla.Value{Name: inputRow, Shape: shapes.Make(dtypes.Int32)}
	return program.Function{
		Name: "decode", Apart: true, Inputs: append(p.parameters(p.trees.decode), p.latentsValue(), row),
		Outputs: rowsOf(outputImages),
		Build: func(in program.Nodes) (next, outputs program.Nodes) {
			all, row := in.Get(inputLatents), in.Get(inputRow)
			zero := ZerosLike(row)
			latents := DynamicSlice(all, []*Node{row, zero, zero, zero},
				append([]int{1}, all.Shape().Dimensions[1:]...))
			return nil, program.Nodes{outputImages: p.decodeGraph(in, latents)}
		},
	}
}

// decodePieceFunction maps latents float32 [images, height/8, width/8, channels] to images float32 [images, height,
// width, 3] in [0, 1].
func (p *Pipeline) decodePieceFunction(k pieceKey) program.Function {
	latents := batch(inputLatents, dtypes.Float32, k.images, k.height, k.width, p.channels())
	return program.Function{
		Name: "decode_piece", Apart: true, Inputs: append(p.parameters(p.trees.decode), latents),
		Outputs: rowsOf(outputImages),
		Build: func(in program.Nodes) (next, outputs program.Nodes) {
			return nil, program.Nodes{outputImages: p.decodeGraph(in, in.Get(inputLatents))}
		},
	}
}

// decodeGraph decodes latents to pixels in [0, 1]. in has the parameters.
func (p *Pipeline) decodeGraph(in program.Nodes, latents *Node) *Node {
	vae := p.model.Pipeline.VAE
	latents = DivScalar(latents, vae.ScalingFactor)
	images := vae.Decode(p.bind(p.trees.decode, in).In(diffusers.VAE), ConvertDType(latents, p.model.Compute))
	images = ConvertDType(images, dtypes.Float32)
	return ClipScalar(AddScalar(MulScalar(images, 0.5), 0.5), 0, 1)
}
