package sample

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"golang.org/x/sync/errgroup"

	"limner/sample/schedule"
	"limner/xla"
	"limner/xla/program"
)

// New compiles the programs that a request such as r needs and puts the parameters on the devices. Another request may
// make the pipeline compile more: for guidance where r has none, for images to begin from, for prompts longer than one
// chunk.
func New(ctx context.Context, b *xla.Backend, m Model, s Shape, r Request) (*Pipeline, error) {
	// The parameters come last: a program that does not compile leaves nothing on the devices.
	p, err := compile(ctx, b, m, s, r)
	if err != nil {
		return nil, err
	}
	if err := p.load(ctx, slices.Concat(p.trees.conditions...), p.trees.text, p.trees.project, p.trees.step,
		p.trees.decode); err != nil {
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
	out := Programs{Text: p.texts[r.ClipSkip].Program, Calls: len(sched.Calls)}
	if p.decoder != nil {
		out.Decode = p.decoder.Program
	}
	for _, condition := range p.conditions {
		out.Conditions = append(out.Conditions, condition.Program)
	}
	for _, step := range p.steps {
		out.Step = step.Program
	}
	for _, projector := range p.projectors {
		out.Project = projector.Program
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
	if m.Logged == nil {
		m.Logged = map[string]bool{}
	}
	if err := errors.Join(m.Check(s, b.Devices()), m.Pipeline.CheckClipSkip(r.ClipSkip)); err != nil {
		return nil, err
	}
	p := &Pipeline{
		backend: b, model: m, shape: s, trees: m.trees(),
		params: program.Arrays{}, texts: map[int]*program.Program{}, projectors: map[projectionKey]*program.Program{},
		steps: map[stepKey]*program.Program{}, pieces: map[pieceKey]*program.Program{},
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
	p.conditions = make([]*program.Program, len(p.model.ControlNets))
	for i := range p.conditions {
		programs.Go(func() (err error) {
			p.conditions[i], err = p.compile(ctx, fmt.Sprintf("the conditioning embedding of ControlNet %d", i+1),
				p.conditionFunction(i))
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

// Schedule is what a request's scheduler does for images of a height and width in pixels; 0 stands for what the model
// was trained for.
func (m Model) Schedule(r Request, height, width int) (schedule.Schedule, error) {
	o, scale := r.Options, m.Pipeline.VAE.Scale()
	o.LatentSize = [2]int{height / scale, width / scale}
	for i, n := range o.LatentSize {
		if n == 0 {
			o.LatentSize[i] = m.Pipeline.UNet.SampleSize
		}
	}
	return schedule.New(r.Scheduler, m.Pipeline.Noise, r.NumInferenceSteps, o)
}

// schedule is that of the request's scheduler.
func (p *Pipeline) schedule(r Request) (schedule.Schedule, error) {
	return p.model.Schedule(r, p.shape.Height, p.shape.Width)
}

// textProgram is the program of the text encoders for a clip skip.
func (p *Pipeline) textProgram(ctx context.Context, clipSkip int) (*program.Program, error) {
	return kept(ctx, p, p.texts, clipSkip, "the text encoder", p.textFunction)
}

// projectProgram is the program of the text's projections.
func (p *Pipeline) projectProgram(ctx context.Context, key projectionKey) (*program.Program, error) {
	return kept(ctx, p, p.projectors, key, "the projections of the text", p.projectFunction)
}

// stepProgram is the program of a denoising step.
func (p *Pipeline) stepProgram(ctx context.Context, key stepKey) (*program.Program, error) {
	name := fmt.Sprintf("the denoising step%s (batch %d, %d×%d pixels)",
		key, p.shape.Batch, p.shape.Width, p.shape.Height)
	return kept(ctx, p, p.steps, key, name, p.stepFunction)
}

// kept is the program of a key, compiled on first use. name is how it is announced.
func kept[K comparable](
	ctx context.Context, p *Pipeline, programs map[K]*program.Program, key K, name string,
	describe func(K) program.Function,
) (*program.Program, error) {
	if have := programs[key]; have != nil {
		return have, nil
	}
	compiled, err := p.compile(ctx, name, describe(key))
	if err == nil {
		programs[key] = compiled
	}
	return compiled, err
}

// encodeProgram is the program of the VAE's encoder, compiled and loaded on first use.
func (p *Pipeline) encodeProgram(ctx context.Context) (*program.Program, error) {
	if p.encoder != nil {
		return p.encoder, nil
	}
	compiled, err := p.compile(ctx, "the image encoder", p.encodeFunction())
	if err != nil {
		return nil, err
	}
	if err := p.load(ctx, p.trees.encode); err != nil {
		return nil, err
	}
	p.encoder = compiled
	return compiled, nil
}
