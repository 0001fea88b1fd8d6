package sample

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"limner/models/unet"
	"limner/sample/schedule"
	"limner/xla"
	"limner/xla/program"
)

// roundInputs are a round's arguments of the denoising steps, but the parameters and the noise of a call.
type roundInputs struct {
	state        program.Arrays // the latents, and zeros of what the scheduler remembers
	zeros        *xla.Array     // for calls without noise
	shared       program.Arrays // by all calls: each takes of them what it reads
	coefficients []*xla.Array   // by call
	schedules    []*xla.Array   // by call: the factors of known and known_noise; none if there is no known_noise
}

// of are the arguments of call i alone.
func (in *roundInputs) of(i int, noise *xla.Array) program.Arrays {
	own := program.Arrays{inputCoefficients: in.coefficients[i], inputNoise: noise}
	if in.schedules != nil {
		own[inputKnownSchedule] = in.schedules[i]
	}
	return own
}

// uploader puts arrays on the devices for a round and keeps the first error.
type uploader struct {
	round *round
	err   error
}

func (u *uploader) put(values []float32, sharding xla.Sharding, dims ...int) *xla.Array {
	if u.err != nil {
		return nil
	}
	a, err := keep(u.round, values, sharding, dims...)
	u.err = err
	return a
}

func (u *uploader) putLatents(values []float32) *xla.Array {
	return u.put(values, xla.Batch, u.round.p.latentsValue().Shape.Dimensions...)
}

func (u *uploader) vector(values ...float32) *xla.Array {
	return u.put(values, xla.Replicated, len(values))
}

// inputs puts all that the round needs on the devices, and the latents that it begins with.
func (r *round) inputs(ctx context.Context) (*roundInputs, error) {
	begin, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	u := &uploader{round: r}
	r.latents = u.putLatents(begin.latents)
	zeros := make([]float32, len(begin.latents))
	in := &roundInputs{zeros: u.putLatents(zeros), state: program.Arrays{inputLatents: r.latents}}
	in.shared = program.Arrays{
		inputLoRAs:    u.vector(r.request.scales(len(r.p.model.LoRAs))...),
		inputGuidance: u.vector(float32(r.request.GuidanceScale), float32(r.request.GuidanceRescale)),
	}
	for i := range schedule.Memories {
		in.state[inputMemory(i)] = u.putLatents(zeros)
	}
	for i := range r.schedule.Calls {
		in.coefficients = append(in.coefficients, u.vector(r.schedule.Coefficients(i)...))
	}
	scales := make([]float32, max(1, len(r.p.model.ControlNets)))
	for i := range scales {
		scales[i] = float32(nth(r.request.ControlNetConditioningScale, i, 1))
	}
	in.shared[inputConditioning] = u.vector(scales...)
	text := r.context(u, in)
	if u.err != nil {
		return nil, u.err
	}
	if err := r.project(in, text); err != nil {
		return nil, err
	}
	if err := r.embedConditions(in); err != nil {
		return nil, err
	}
	if begin.mask != nil {
		in.shared[inputMask] = u.put(begin.mask, xla.Batch, r.p.shape.Batch, r.p.latentHeight(), r.p.latentWidth(), 1)
		in.shared[inputKnown] = u.putLatents(begin.known)
	}
	if begin.knownNoise != nil {
		in.shared[inputKnownNoise] = u.putLatents(begin.knownNoise)
		for _, next := range r.schedule.Calls[1:] {
			in.schedules = append(in.schedules, u.vector(float32(next.Signal), float32(next.Sigma)))
		}
		in.schedules = append(in.schedules, u.vector(1, 0)) // after the last call what is known is clean
	}
	return in, u.err
}

// embedConditions computes the embeddings of the conditioning images, of the ControlNets that are at work in some call.
func (r *round) embedConditions(in *roundInputs) error {
	for i, c := range r.p.model.ControlNets {
		if !slices.ContainsFunc(r.calls, func(call callProgram) bool { return call.key.controls>>i&1 == 1 }) {
			continue
		}
		values := r.rows(r.request.Conditions[i], r.p.conditionSize(i))
		images, err := keep(r, values, xla.Batch,
			r.p.shape.Batch, r.p.shape.Height, r.p.shape.Width, c.ConditioningChannels)
		if err != nil {
			return err
		}
		out, err := r.p.apply(r.p.conditions[i], program.Arrays{inputImages: images})
		if err != nil {
			return fmt.Errorf("embed the conditioning images of ControlNet %d: %w", i+1, err)
		}
		r.keepAll(out)
		maps.Copy(in.shared, out)
	}
	return nil
}

// context puts what the network is told of the prompts on the devices, with guidance that of the negative prompt before
// that of the prompt, and returns the text embeddings.
func (r *round) context(u *uploader, in *roundInputs) *xla.Array {
	var text, pooled, ids []float32
	rows := 0
	add := func(e embedding, sizes []float32) {
		text, pooled, ids = append(text, e.text...), append(pooled, e.pooled...), append(ids, sizes...)
		rows++
	}
	for i := range r.p.shape.Batch {
		i = r.index(i)
		if r.texts.negative != nil {
			add(r.texts.negative[i], r.negativeTimeIDs())
		}
		add(r.texts.prompt[i], r.timeIDs())
	}
	width := r.p.model.Pipeline.UNet.CrossAttentionDim
	if r.p.model.Pipeline.XL() {
		in.shared[inputPooled] = u.put(pooled, xla.Batch, rows, len(pooled)/rows)
		in.shared[inputTimeIDs] = u.put(ids, xla.Batch, rows, unet.TimeIDs)
	}
	return u.put(text, xla.Batch, rows, len(text)/rows/width, width)
}

// timeIDs are the sizes that SDXL is told beside a prompt.
func (r *round) timeIDs() []float32 {
	return r.sizes(r.request.OriginalSize, r.request.CropsCoordsTopLeft, r.request.TargetSize)
}

// negativeTimeIDs are those beside a negative prompt.
func (r *round) negativeTimeIDs() []float32 {
	q := r.request
	if q.NegativeOriginalSize == [2]int{} && q.NegativeCropsCoordsTopLeft == [2]int{} &&
		q.NegativeTargetSize == [2]int{} {
		return r.timeIDs()
	}
	return r.sizes(q.NegativeOriginalSize, q.NegativeCropsCoordsTopLeft, q.NegativeTargetSize)
}

func (r *round) sizes(original, crop, target [2]int) []float32 {
	size := [2]int{r.p.shape.Height, r.p.shape.Width}
	if original == [2]int{} {
		original = size
	}
	if target == [2]int{} {
		target = size
	}
	var out []float32
	for _, pair := range [][2]int{original, crop, target} {
		out = append(out, float32(pair[0]), float32(pair[1]))
	}
	return out
}

// project computes the projections of the round's text embeddings.
func (r *round) project(in *roundInputs, text *xla.Array) error {
	out, err := r.p.apply(r.projector, program.Arrays{inputLoRAs: in.shared[inputLoRAs], inputText: text})
	if err != nil {
		return fmt.Errorf("project the text embeddings: %w", err)
	}
	r.keepAll(out)
	maps.Copy(in.shared, out)
	return nil
}
