// Package sample draws images: it encodes prompts, runs the denoising loop of a scheduler with classifier-free guidance and
// ControlNets, from noise or from an image, and decodes the latents.
package sample

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"
	"golang.org/x/sync/errgroup"

	"limner/controlnet"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/sample/schedule"
	"limner/xla"
)

// Model is what a pipeline draws with.
type Model struct {
	Pipeline    *diffusers.Pipeline
	ControlNets []controlnet.Config // none: images from text alone
	Weights     nn.Source           // below unet, vae, text_encoder, with SDXL text_encoder_2, and ControlNetName of each ControlNet
	LoRAs       []*diffusers.LoRA   // applied at run time
	Compute     dtypes.DType        // of activations and weights; the zero value is float32
	VAESlicing  bool                // decode tiles of one image at a time on each device, which takes less memory; whole images always are
	VAETiling   bool                // decode large images in tiles, likewise; where they overlap, the image is not quite the same
	Log         io.Writer           // hears of compiling, and of prompts that are long; nil: silence

	// Resident are parameters that are on the devices already, such as those of a network in training. They are read where
	// they are, and neither copied nor freed.
	Resident map[string]*xla.Array
	// Added are, by the key of a table of token embeddings, the parameters whose rows come behind its own: tokens in training. Like the
	// table they are resident.
	Added map[string]nn.Tree
}

// ControlNetName is the place of a ControlNet's parameters.
func ControlNetName(i int) string {
	if i == 0 {
		return diffusers.ControlNet
	}
	return fmt.Sprintf("%s_%d", diffusers.ControlNet, i)
}

// Shape is what the programs are compiled for.
type Shape struct {
	Batch         int // images drawn at once, over all devices
	Height, Width int // of the images, in pixels
}

// Pipeline holds the compiled programs, and the parameters on the devices, of one model and shape. It may be used from one
// goroutine at a time.
type Pipeline struct {
	backend    *xla.Backend
	model      Model
	shape      Shape
	trees      trees
	params     map[string]*xla.Array // by key, shared by all programs
	texts      map[int]*xla.Program  // by clip skip
	projectors map[projectionKey]*xla.Program
	steps      map[stepKey]*xla.Program
	conditions []*xla.Program // by ControlNet
	encoder    *xla.Program   // nil until there is an image to begin from
	decoder    *xla.Program   // of whole images; nil if they are decoded in pieces
	pieces     map[pieceKey]*xla.Program
	told       map[string]bool // lines on prompts that Log has
}

// New compiles the programs that a request such as r needs and puts the parameters on the devices. Another request may make the
// pipeline compile more: for guidance where r has none, for images to begin from, for prompts longer than one chunk.
func New(ctx context.Context, b *xla.Backend, m Model, s Shape, r Request) (*Pipeline, error) {
	// The parameters come last: a program that does not compile leaves nothing on the devices.
	p, err := compile(ctx, b, m, s, r)
	if err != nil {
		return nil, err
	}
	if err := p.load(ctx, slices.Concat(p.trees.conditions...), p.trees.text, p.trees.project, p.trees.step, p.trees.decode); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Programs are what New compiles.
type Programs struct {
	Text, Project, Step, Decode *xla.Program   // Decode is nil where images are decoded in pieces
	Conditions                  []*xla.Program // by ControlNet
	Calls                       int            // of Step
}

// CompileOnly compiles what New does, and puts nothing on the devices: the model needs no weights.
func CompileOnly(ctx context.Context, b *xla.Backend, m Model, s Shape, r Request) (Programs, error) {
	p, err := compile(ctx, b, m, s, r)
	if err != nil {
		return Programs{}, err
	}
	sched, err := p.schedule(r)
	out := Programs{Text: p.texts[r.ClipSkip], Decode: p.decoder, Conditions: p.conditions, Calls: len(sched.Calls)}
	for _, step := range p.steps {
		out.Step = step
	}
	for _, projector := range p.projectors {
		out.Project = projector
	}
	return out, err
}

// compile makes a pipeline without parameters.
func compile(ctx context.Context, b *xla.Backend, m Model, s Shape, r Request) (*Pipeline, error) {
	if m.Compute == dtypes.InvalidDType {
		m.Compute = dtypes.Float32
	}
	if m.Log == nil {
		m.Log = io.Discard
	}
	m.Log = &sharedLog{to: m.Log}
	if err := m.Check(s, b.Devices()); err != nil {
		return nil, err
	}
	p := &Pipeline{
		backend: b, model: m, shape: s, trees: m.trees(),
		params: map[string]*xla.Array{}, texts: map[int]*xla.Program{},
		projectors: map[projectionKey]*xla.Program{}, steps: map[stepKey]*xla.Program{}, pieces: map[pieceKey]*xla.Program{}, told: map[string]bool{},
	}
	sched, err := p.schedule(r)
	if err != nil {
		return nil, err
	}
	if err := p.compileAll(ctx, r, sched); err != nil {
		return nil, err
	}
	return p, nil
}

// compileAll compiles what New does, all at once: a compilation works on several threads for a part of its time only.
func (p *Pipeline) compileAll(ctx context.Context, r Request, sched schedule.Schedule) error {
	chunks, err := p.model.Chunks(r)
	if err != nil {
		return err
	}
	var programs errgroup.Group
	programs.Go(func() error {
		_, err := p.stepProgram(ctx, p.stepKey(r, sched, 0, chunks))
		return err
	})
	programs.Go(func() error {
		_, err := p.textProgram(ctx, r.ClipSkip)
		return err
	})
	programs.Go(func() error {
		_, err := p.projectProgram(ctx, p.projectionKey(r, chunks))
		return err
	})
	p.conditions = make([]*xla.Program, len(p.model.ControlNets))
	for i := range p.conditions {
		programs.Go(func() (err error) {
			p.conditions[i], err = p.compile(ctx, fmt.Sprintf("the conditioning embedding of ControlNet %d", i+1), p.conditionFunction(i))
			return err
		})
	}
	if !p.tiled() {
		programs.Go(func() (err error) {
			p.decoder, err = p.compile(ctx, "the image decoder", p.decodeFunction())
			return err
		})
	}
	return programs.Wait()
}

// schedule is that of the request's scheduler.
func (p *Pipeline) schedule(r Request) (schedule.Schedule, error) {
	return schedule.New(r.Scheduler, p.model.Pipeline.Noise, r.NumInferenceSteps, r.Options)
}

// load puts the parameters of trees on the devices, but those that are there, until ctx is done.
func (p *Pipeline) load(ctx context.Context, trees ...nn.Tree) error {
	for _, tree := range trees {
		if err := p.loadTree(ctx, tree); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pipeline) loadTree(ctx context.Context, tree nn.Tree) error {
	var networks, loras nn.Tree
	for _, spec := range tree {
		switch {
		case p.array(spec.Key) != nil:
		case strings.HasPrefix(spec.Key, loraPrefix):
			loras = append(loras, spec)
		default:
			networks = append(networks, spec)
		}
	}
	dtype := nn.FileDType(p.model.Compute)
	err := checkpoint.InMemory(p.model.loraValues()).Stream(loras, dtype, p.put)
	if len(networks) > 0 {
		err = errors.Join(nn.Until(ctx, p.model.Weights).Stream(networks, dtype, p.put), err)
	}
	return err
}

// array is the parameter of a key on the devices, or nil.
func (p *Pipeline) array(key string) *xla.Array {
	if a := p.model.Resident[key]; a != nil {
		return a
	}
	return p.params[key]
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
	for i, side := range []int{s.Height, s.Width} {
		if side < scale || side%scale != 0 {
			below := max(1, side/scale) * scale
			bad("%s %d: want a multiple of %d pixels: the nearest are %d and %d", []string{"height", "width"}[i], side, scale, below, below+scale)
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
	latents := m.Pipeline.VAE.LatentChannels
	if u := m.Pipeline.UNet; u.OutChannels != latents || u.InChannels != latents && !m.inpaints() {
		bad("the UNet has %d in_channels and %d out_channels, supported: %d and %d, or %d and %d for inpainting",
			u.InChannels, u.OutChannels, latents, latents, 2*latents+1, latents)
	}
	for i, c := range m.ControlNets {
		if err := c.CheckUNet(m.Pipeline.UNet); err != nil {
			bad("ControlNet %d does not fit the model: %w", i+1, err)
		}
		if c.Stride() != scale {
			bad("ControlNet %d has %d pixels for each latent, the VAE %d: conditioning_embedding_out_channels has the wrong number of entries", i+1, c.Stride(), scale)
		}
	}
	return errors.Join(errs...)
}

// inpaints says whether the UNet is told the mask and the latents of what stays, beside the latents.
func (m Model) inpaints() bool {
	return m.Pipeline.UNet.InChannels == 2*m.Pipeline.VAE.LatentChannels+1
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

// projectProgram is the program of the text's projections, compiled on first use.
func (p *Pipeline) projectProgram(ctx context.Context, key projectionKey) (*xla.Program, error) {
	if have := p.projectors[key]; have != nil {
		return have, nil
	}
	program, err := p.compile(ctx, "the projections of the text", p.projectFunction(key))
	if err != nil {
		return nil, err
	}
	p.projectors[key] = program
	return program, nil
}

// stepProgram is the program of a denoising step, compiled on first use.
func (p *Pipeline) stepProgram(ctx context.Context, key stepKey) (*xla.Program, error) {
	if have := p.steps[key]; have != nil {
		return have, nil
	}
	name := fmt.Sprintf("the denoising step%s (batch %d, %d×%d pixels)", key, p.shape.Batch, p.shape.Width, p.shape.Height)
	program, err := p.compile(ctx, name, p.stepFunction(key))
	if err != nil {
		return nil, err
	}
	p.steps[key] = program
	return program, nil
}

// encodeProgram is the program of the VAE's encoder, compiled and loaded on first use.
func (p *Pipeline) encodeProgram(ctx context.Context) (*xla.Program, error) {
	if p.encoder != nil {
		return p.encoder, nil
	}
	program, err := p.compile(ctx, "the image encoder", p.encodeFunction())
	if err != nil {
		return nil, err
	}
	if err := p.load(ctx, p.trees.encode); err != nil {
		return nil, err
	}
	p.encoder = program
	return program, nil
}

// sharedLog takes lines from several compilations at once.
type sharedLog struct {
	mu sync.Mutex
	to io.Writer
}

func (l *sharedLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(line)
}

// compile announces a program and how long it took.
func (p *Pipeline) compile(ctx context.Context, name string, f xla.Function) (*xla.Program, error) {
	f.Announce = func(loading bool, compiling xla.Expected) {
		if loading {
			fmt.Fprintf(p.model.Log, "loading %s\n", name)
		} else {
			fmt.Fprintf(p.model.Log, "compiling %s%s\n", name, compiling)
		}
	}
	program, err := p.backend.Compile(ctx, f)
	if err != nil {
		return nil, err
	}
	if took := program.CompileTime; program.FromCache {
		fmt.Fprintf(p.model.Log, "loaded %s in %.1f s: it had been compiled before\n", name, took.Seconds())
	} else if took >= time.Second {
		fmt.Fprintf(p.model.Log, "compiled %s in %.1f s\n", name, took.Seconds())
	}
	return program, nil
}

// Replace puts other weights in the place of the parameters that the tree lists, such as a ControlNet's that is being
// trained. It fails for a parameter that the pipeline does not have.
func (p *Pipeline) Replace(tree nn.Tree, weights nn.Source) error {
	return weights.Stream(tree, nn.FileDType(p.model.Compute), func(spec nn.Spec, write func(to []byte) error) error {
		old := p.params[spec.Key]
		if old == nil {
			return fmt.Errorf("the pipeline has no parameter %s", spec.Key)
		}
		if err := p.put(spec, write); err != nil {
			return err
		}
		return old.Free()
	})
}

// put copies a parameter to the devices.
func (p *Pipeline) put(spec nn.Spec, write func(to []byte) error) error {
	a, err := xla.Fill(p.backend, shapes.Make(p.model.Compute, spec.Shape...), xla.Replicated, write)
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

// latentSize is the number of values in the latents of one image, conditionSize that of a ControlNet's conditioning image.
func (p *Pipeline) latentSize() int { return p.latentHeight() * p.latentWidth() * p.channels() }

func (p *Pipeline) conditionSize(net int) int {
	return p.shape.Height * p.shape.Width * p.model.ControlNets[net].ConditioningChannels
}
