// Package sample draws images: it encodes prompts, runs the denoising loop of one sampler with classifier-free guidance and
// a ControlNet, and decodes the latents.
package sample

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/controlnet"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/xla"
)

// Model is what a pipeline draws with.
type Model struct {
	Pipeline   *diffusers.Pipeline
	ControlNet *controlnet.Config // nil: images from text alone
	Weights    nn.Source          // below unet, vae, text_encoder, with SDXL text_encoder_2, and with a ControlNet controlnet
	LoRAs      []*diffusers.LoRA  // applied at run time
	Compute    dtypes.DType       // of activations and weights; the zero value is float32
	Log        io.Writer          // hears of compiling, and of prompts that are long; nil: silence
}

// Shape is what the programs are compiled for. Anything else may vary from request to request.
type Shape struct {
	Batch         int // images drawn at once, over all devices
	Height, Width int // of the images, in pixels
	Guidance      bool
}

// stepKey is what the denoising step is compiled for, beside the shape.
type stepKey struct {
	guidance bool
	chunks   int // of the text embeddings
}

// Pipeline holds the compiled programs, and the parameters on the devices, of one model and shape. It may be used from one
// goroutine at a time.
type Pipeline struct {
	backend *xla.Backend
	model   Model
	shape   Shape
	sampler DDIM
	trees   trees
	params  map[string]*xla.Array // by key, shared by all programs
	texts   map[int]*xla.Program  // by clip skip
	steps   map[stepKey]*xla.Program
	decoder *xla.Program
}

// New compiles the programs for a shape and puts the parameters on the devices. A request that needs guidance where shape has
// none, or the other way round, or whose prompts are longer than one chunk, makes the pipeline compile once more.
func New(ctx context.Context, b *xla.Backend, m Model, s Shape) (*Pipeline, error) {
	if m.Compute == dtypes.InvalidDType {
		m.Compute = dtypes.Float32
	}
	if m.Log == nil {
		m.Log = io.Discard
	}
	if err := m.Check(s, b.Devices()); err != nil {
		return nil, err
	}
	p := &Pipeline{
		backend: b, model: m, shape: s, sampler: DDIM{m.Pipeline.Noise}, trees: m.trees(),
		params: map[string]*xla.Array{}, texts: map[int]*xla.Program{}, steps: map[stepKey]*xla.Program{},
	}
	// The parameters come last: a program that does not compile leaves nothing on the devices.
	if _, err := p.textProgram(ctx, 0); err != nil {
		return nil, err
	}
	if _, err := p.stepProgram(ctx, stepKey{s.Guidance, 1}); err != nil {
		return nil, err
	}
	var err error
	if p.decoder, err = p.compile(ctx, "the image decoder", p.decodeFunction()); err != nil {
		return nil, err
	}
	err = errors.Join(
		m.Weights.Stream(p.trees.networks(), fileDType(m.Compute), p.put),
		checkpoint.InMemory(m.loraValues()).Stream(p.trees.lora, fileDType(m.Compute), p.put))
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Check reports everything about a shape that does not fit the model or the devices.
func (m Model) Check(s Shape, devices int) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Batch < 1 {
		bad("batch %d: want at least 1", s.Batch)
	} else if s.Batch%devices != 0 {
		bad("batch %d does not divide over %d devices: use %d", s.Batch, devices, (s.Batch+devices-1)/devices*devices)
	}
	scale := m.Pipeline.VAE.Scale()
	for name, side := range map[string]int{"height": s.Height, "width": s.Width} {
		if side < scale || side%scale != 0 {
			bad("%s %d: want a multiple of %d pixels, such as %d", name, side, scale, max(1, (side+scale/2)/scale)*scale)
		}
	}
	if n := m.Pipeline.VAE.OutChannels; n != 3 {
		bad("the VAE's out_channels is %d, supported: 3", n)
	}
	for _, e := range m.encoders() {
		if have, want := e.config.VocabSize, e.tokenizer.VocabSize(); have < want {
			bad("%s: the tokenizer has %d tokens, vocab_size is %d", e.component, want, have)
		}
	}
	if u := m.Pipeline.UNet; u.InChannels != u.OutChannels {
		bad("the model is for inpainting (%d in_channels), which this command does not do", u.InChannels)
	}
	if c := m.ControlNet; c != nil {
		if err := c.CheckUNet(m.Pipeline.UNet); err != nil {
			bad("the ControlNet does not fit the model: %w", err)
		}
		if c.Stride() != scale {
			bad("the ControlNet has %d pixels for each latent, the VAE %d: conditioning_embedding_out_channels has the wrong number of entries", c.Stride(), scale)
		}
	}
	return errors.Join(errs...)
}

// textProgram is the program of the text encoders for a clip skip, compiled on first use.
func (p *Pipeline) textProgram(ctx context.Context, clipSkip int) (*xla.Program, error) {
	if have := p.texts[clipSkip]; have != nil {
		return have, nil
	}
	program, err := p.compile(ctx, "the text encoder", p.textFunction(clipSkip))
	if err != nil {
		return nil, err
	}
	p.texts[clipSkip] = program
	return program, nil
}

// stepProgram is the program of a denoising step, compiled on first use.
func (p *Pipeline) stepProgram(ctx context.Context, key stepKey) (*xla.Program, error) {
	if have := p.steps[key]; have != nil {
		return have, nil
	}
	how := ""
	if key.guidance {
		how = " with guidance"
	}
	if key.chunks > 1 {
		how += fmt.Sprintf(", prompts of %d chunks", key.chunks)
	}
	name := fmt.Sprintf("the denoising step%s (batch %d, %d×%d pixels)", how, p.shape.Batch, p.shape.Width, p.shape.Height)
	program, err := p.compile(ctx, name, p.stepFunction(key))
	if err != nil {
		return nil, err
	}
	p.steps[key] = program
	return program, nil
}

// compile announces a program and how long it took.
func (p *Pipeline) compile(ctx context.Context, name string, f xla.Function) (*xla.Program, error) {
	fmt.Fprintf(p.model.Log, "compiling %s\n", name)
	program, err := p.backend.Compile(ctx, f)
	if err != nil {
		return nil, err
	}
	if took := program.CompileTime; took >= time.Second {
		fmt.Fprintf(p.model.Log, "compiled in %.1f s\n", took.Seconds())
	}
	return program, nil
}

// Replace puts other weights in the place of the parameters that the tree lists, such as a ControlNet's that is being
// trained. It fails for a parameter that the pipeline does not have.
func (p *Pipeline) Replace(tree nn.Tree, weights nn.Source) error {
	return weights.Stream(tree, fileDType(p.model.Compute), func(spec nn.Spec, data []byte) error {
		old := p.params[spec.Key]
		if old == nil {
			return fmt.Errorf("the pipeline has no parameter %s", spec.Key)
		}
		if err := p.put(spec, data); err != nil {
			return err
		}
		return old.Free()
	})
}

// put copies a parameter to the devices.
func (p *Pipeline) put(spec nn.Spec, data []byte) error {
	a, err := xla.PutBytes(p.backend, data, shapes.Make(p.model.Compute, spec.Shape...), xla.Replicated)
	if err != nil {
		return fmt.Errorf("parameter %s: %w", spec.Key, err)
	}
	p.params[spec.Key] = a
	return nil
}

// fileDType is how safetensors and nn.Source spell a compute dtype.
func fileDType(dtype dtypes.DType) string {
	switch dtype {
	case dtypes.BFloat16:
		return "BF16"
	case dtypes.Float16:
		return "F16"
	}
	return "F32"
}

// Close frees the parameters. The pipeline is of no use afterwards.
func (p *Pipeline) Close() error {
	var errs []error
	for _, a := range p.params {
		errs = append(errs, a.Free())
	}
	return errors.Join(errs...)
}

func (p *Pipeline) latentHeight() int { return p.shape.Height / p.model.Pipeline.VAE.Scale() }
func (p *Pipeline) latentWidth() int  { return p.shape.Width / p.model.Pipeline.VAE.Scale() }
func (p *Pipeline) channels() int     { return p.model.Pipeline.VAE.LatentChannels }

// latentSize is the number of values in the latents of one image, conditionSize that of a conditioning image.
func (p *Pipeline) latentSize() int { return p.latentHeight() * p.latentWidth() * p.channels() }

func (p *Pipeline) conditionSize() int {
	if p.model.ControlNet == nil {
		return 0
	}
	return p.shape.Height * p.shape.Width * p.model.ControlNet.ConditioningChannels
}
