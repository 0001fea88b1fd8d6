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

	"limner/controlnet"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/xla"
)

// Model is what a pipeline draws with.
type Model struct {
	Pipeline   *diffusers.Pipeline
	ControlNet *controlnet.Config // nil: images from text alone
	Values     nn.Values          // the weights, below unet, vae, text_encoder and, with a ControlNet, controlnet
	Compute    dtypes.DType       // of activations; the zero value is float32
	Log        io.Writer          // hears of compiling, and of prompts that are cut; nil: silence
}

// Shape is what the programs are compiled for. Anything else may vary from request to request.
type Shape struct {
	Batch         int // images drawn at once, over all devices
	Height, Width int // of the images, in pixels
	Guidance      bool
}

// Pipeline holds the compiled programs, and the parameters on the devices, of one model and shape. It may be used from one
// goroutine at a time.
type Pipeline struct {
	backend  *xla.Backend
	model    Model
	shape    Shape
	sampler  DDIM
	trees    trees
	params   map[string]*xla.Array // by key, shared by all programs
	programs map[bool]*programs    // by guidance
	decoder  *xla.Program
}

// programs depend on whether there is guidance.
type programs struct {
	text, step *xla.Program
}

// New compiles the programs for a shape and puts the parameters on the devices. A request that needs guidance where shape has
// none, or the other way round, makes the pipeline compile once more.
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
		params: map[string]*xla.Array{}, programs: map[bool]*programs{},
	}
	// The parameters come last: a program that does not compile leaves nothing on the devices.
	if _, err := p.programsFor(ctx, s.Guidance); err != nil {
		return nil, err
	}
	var err error
	if p.decoder, err = p.compile(ctx, "the image decoder", p.decodeFunction()); err != nil {
		return nil, err
	}
	for _, spec := range p.trees.all() {
		if err := p.put(spec, m.Values[spec.Key]); err != nil {
			return nil, errors.Join(err, p.Close())
		}
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
	if have, want := m.Pipeline.Text.VocabSize, m.Pipeline.Tokenizer.VocabSize(); have < want {
		bad("the tokenizer has %d tokens, the text encoder's vocab_size is %d", want, have)
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

// programsFor returns the programs with or without guidance, compiling them on first use.
func (p *Pipeline) programsFor(ctx context.Context, guidance bool) (*programs, error) {
	if have := p.programs[guidance]; have != nil {
		return have, nil
	}
	text, err := p.compile(ctx, "the text encoder", p.textFunction(guidance))
	if err != nil {
		return nil, err
	}
	how := ""
	if guidance {
		how = " with guidance"
	}
	name := fmt.Sprintf("the denoising step%s (batch %d, %d×%d pixels)", how, p.shape.Batch, p.shape.Width, p.shape.Height)
	step, err := p.compile(ctx, name, p.stepFunction(guidance))
	if err != nil {
		return nil, err
	}
	p.programs[guidance] = &programs{text: text, step: step}
	return p.programs[guidance], nil
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

// Replace puts other weights in the place of those with the same keys, such as a ControlNet's that is being trained.
func (p *Pipeline) Replace(values nn.Values) error {
	for _, spec := range p.trees.all() {
		data, ok := values[spec.Key]
		if !ok {
			continue
		}
		old := p.params[spec.Key]
		if err := p.put(spec, data); err != nil {
			return err
		}
		if err := old.Free(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pipeline) put(spec nn.Spec, data []float32) error {
	if data == nil {
		return fmt.Errorf("no values for parameter %s", spec.Key)
	}
	a, err := xla.Put(p.backend, data, xla.Replicated, spec.Shape...)
	if err != nil {
		return fmt.Errorf("parameter %s: %w", spec.Key, err)
	}
	p.params[spec.Key] = a
	return nil
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
