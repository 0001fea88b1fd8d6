// Package sample samples images: it encodes prompts, runs the denoising loop of a scheduler with classifier-free
// guidance and ControlNets, from noise or from an image, and decodes the latents.
package sample

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"limner/data/imaging"
	"limner/sample/schedule"
)

// Sample samples the images of a request, as Each does, and returns them all in place of calling OnImage.
func (p *Pipeline) Sample(ctx context.Context, r Request) (*Result, error) {
	n := len(r.Prompts)
	all := &Result{
		Images: make([]*imaging.RGB, n), Latents: make([]float32, n*p.latentSize()), Problems: make([]error, n),
	}
	r.OnImage = func(i Image) error {
		all.Images[i.Index], all.Problems[i.Index] = i.Picture, i.Problem
		copy(all.Latents[i.Index*p.latentSize():], i.Latents)
		return nil
	}
	if err := p.Each(ctx, func(yield func(Request, error) bool) { yield(r, nil) }); err != nil {
		return nil, err
	}
	return all, nil
}

// Each samples the images of requests, Batch at a time, and calls their OnImage. A request is asked for when the one
// before is sampled. The last round of each is filled up with copies of its last image, which are dropped. Between
// steps the latents stay on the devices, and while one round's images are decoded, fetched and given to OnImage, the
// next round is sampled. When ctx is done, the round that is being sampled is given up, and the one that is being
// decoded is finished.
func (p *Pipeline) Each(ctx context.Context, requests iter.Seq2[Request, error]) error {
	finished := make(chan error, 1)
	finished <- nil
	err := p.rounds(ctx, requests, func(round *round) error {
		pixels, err := round.sample(ctx)
		if err = errors.Join(err, <-finished); err != nil {
			finished <- nil
			return errors.Join(err, round.free())
		}
		go func() {
			err := round.fetch(pixels)
			finished <- errors.Join(err, round.free())
		}()
		return nil
	})
	return errors.Join(err, <-finished)
}

// rounds samples the images of requests, a round at a time.
func (p *Pipeline) rounds(ctx context.Context, requests iter.Seq2[Request, error], sample func(*round) error) error {
	var prepared *round // of the request before
	for r, err := range requests {
		if err != nil {
			return err
		}
		if prepared, err = p.prepare(ctx, r, prepared); err != nil {
			return err
		}
		for first := 0; first < len(r.Prompts); first += p.shape.Batch {
			if err := sample(prepared.startingAt(first)); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepare checks a request, encodes its prompts and compiles what its rounds need. Where the texts are those of the
// request before, so are their embeddings.
func (p *Pipeline) prepare(ctx context.Context, request Request, before *round) (*round, error) {
	sched, err := p.schedule(request)
	if err := errors.Join(err, p.check(request, sched)); err != nil {
		return nil, err
	}
	r := &round{p: p, request: request, schedule: sched}
	if before != nil && sameTexts(request, before.request) {
		r.texts = before.texts
	} else if r.texts, err = p.encode(ctx, request); err != nil {
		return nil, err
	}
	if r.calls, err = p.callPrograms(ctx, request, sched, r.texts.chunks); err != nil {
		return nil, err
	}
	r.projector, err = p.projectProgram(ctx, p.projectionKey(request, r.texts.chunks))
	return r, err
}

// startingAt is the round that begins with an image of the request.
func (r round) startingAt(first int) *round {
	images, size, calls := len(r.request.Prompts), r.p.shape.Batch, len(r.calls)
	r.first, r.count = first, min(size, images-first)
	r.done, r.total = first/size*calls, (images+size-1)/size*calls
	return &r
}

// callPrograms compiles what the calls of a schedule need.
func (p *Pipeline) callPrograms(ctx context.Context, r Request, sched schedule.Schedule,
	chunks int) ([]callProgram, error) {
	programs := make([]callProgram, len(sched.Calls))
	for i := range programs {
		key := p.stepKey(r, sched, i, chunks)
		program, err := p.stepProgram(ctx, key)
		if err != nil {
			return nil, err
		}
		programs[i] = callProgram{program, key}
	}
	return programs, nil
}

// sample denoises a batch and begins to decode it.
func (r *round) sample(ctx context.Context) (decoded, error) {
	if err := r.denoise(ctx); err != nil {
		return decoded{}, err
	}
	return r.decode(ctx, r.latents)
}

// denoise follows the schedule.
func (r *round) denoise(ctx context.Context) error {
	in, err := r.inputs(ctx)
	if err != nil {
		return err
	}
	draws := 0
	for i, call := range r.calls {
		if err := ctx.Err(); err != nil {
			return err
		}
		noise := in.zeros
		if r.schedule.Calls[i].Noise {
			if noise, err = r.putLatents(r.normals(purposeSteps + uint64(draws))); err != nil {
				return err
			}
			draws++
		}
		if _, err := call.Run(in.state, in.of(i, noise), in.shared, r.p.model.Resident, r.p.params); err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, len(r.calls), err)
		}
		if noise != in.zeros {
			if err := noise.Free(); err != nil {
				return err
			}
		}
		if r.request.OnStep != nil {
			r.request.OnStep(r.done+i+1, r.total, func() ([]float32, error) { return r.get(r.latents) })
		}
	}
	return nil
}
