package sample

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"limner/data"
	"limner/xla"
)

// Sample draws the images of a request, Batch at a time. The last round is filled up with copies of its last image, which are
// dropped. Between steps the latents stay on the devices.
func (p *Pipeline) Sample(ctx context.Context, r Request) (*Result, error) {
	if err := p.check(r); err != nil {
		return nil, err
	}
	steps, err := p.sampler.Steps(r.NumInferenceSteps)
	if err != nil {
		return nil, err
	}
	programs, err := p.programsFor(ctx, guided(r.GuidanceScale))
	if err != nil {
		return nil, err
	}
	p.warnOfCuts(r)
	rounds := (len(r.Prompts) + p.shape.Batch - 1) / p.shape.Batch
	result := &Result{}
	for i := range rounds {
		round := &round{
			Pipeline: p, programs: programs, request: r, steps: steps,
			first: i * p.shape.Batch, done: i * len(steps), total: rounds * len(steps),
		}
		round.count = min(p.shape.Batch, len(r.Prompts)-round.first)
		err := round.run(ctx, result)
		if err := errors.Join(err, round.free()); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// round draws at most a batch of images.
type round struct {
	*Pipeline
	programs    *programs
	request     Request
	steps       []Coefficients
	first       int // index of the first image
	count       int // images that are wanted
	done, total int // steps, over all rounds
	arrays      []*xla.Array
}

func (r *round) run(ctx context.Context, result *Result) error {
	text, err := r.encode()
	if err != nil {
		return fmt.Errorf("encode prompts: %w", err)
	}
	latents, err := r.denoise(ctx, text)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	final, err := r.read(latents)
	if err != nil {
		return err
	}
	if err := r.checkFinite("the latents", final); err != nil {
		return err
	}
	pixels, err := r.decode(latents)
	if err != nil {
		return fmt.Errorf("decode images: %w", err)
	}
	if err := r.checkFinite("the pixels", pixels); err != nil {
		return err
	}
	result.Latents = append(result.Latents, final...)
	for image := range slices.Chunk(pixels, len(pixels)/r.count) {
		result.Images = append(result.Images, r.image(image))
	}
	return nil
}

// encode gives the text embeddings, with guidance those of the negative prompt before those of the prompt.
func (r *round) encode() (*xla.Array, error) {
	var ids []int32
	rows := 0
	add := func(prompt string) {
		row, _ := r.model.Pipeline.Tokenizer.EncodePadded(prompt)
		ids = append(ids, row...)
		rows++
	}
	for i := range r.shape.Batch {
		i = r.index(i)
		if guided(r.request.GuidanceScale) {
			add(r.request.negative(i))
		}
		add(r.request.Prompts[i])
	}
	input, err := keep(r, ids, xla.Batch, rows, len(ids)/rows)
	if err != nil {
		return nil, err
	}
	out, err := r.programs.text.Run(nil, r.arguments(r.trees.text, input)...)
	if err != nil {
		return nil, err
	}
	r.arrays = append(r.arrays, out...)
	return out[0], nil
}

// denoise runs the loop over the timesteps.
func (r *round) denoise(ctx context.Context, text *xla.Array) (*xla.Array, error) {
	latents, err := keep(r, r.initial(), xla.Batch, r.Pipeline.latents().Shape.Dimensions...)
	if err != nil {
		return nil, err
	}
	guidance, err := keep(r, []float32{float32(r.request.GuidanceScale)}, xla.Replicated)
	if err != nil {
		return nil, err
	}
	conditioning, err := keep(r, []float32{float32(r.request.ControlNetConditioningScale)}, xla.Replicated)
	if err != nil {
		return nil, err
	}
	var conditions []*xla.Array
	if c := r.model.ControlNet; c != nil {
		a, err := keep(r, r.conditions(), xla.Batch, r.shape.Batch, r.shape.Height, r.shape.Width, c.ConditioningChannels)
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, a)
	}
	for i, step := range r.steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		coefficients, err := keep(r, step.vector(), xla.Replicated, coefficientCount)
		if err != nil {
			return nil, err
		}
		inputs := append([]*xla.Array{text, coefficients, guidance, conditioning}, conditions...)
		if _, err := r.programs.step.Run([]*xla.Array{latents}, r.arguments(r.trees.step, inputs...)...); err != nil {
			return nil, fmt.Errorf("step %d of %d: %w", i+1, len(r.steps), err)
		}
		if r.request.OnStep != nil {
			r.request.OnStep(r.done+i+1, r.total, func() ([]float32, error) { return r.read(latents) })
		}
	}
	return latents, nil
}

// decode gives the pixels of the wanted images.
func (r *round) decode(latents *xla.Array) ([]float32, error) {
	out, err := r.decoder.Run(nil, r.arguments(r.trees.decode, latents)...)
	if err != nil {
		return nil, err
	}
	r.arrays = append(r.arrays, out...)
	return r.read(out[0])
}

// index is the image in row i of the batch; rows beyond the last image repeat it.
func (r *round) index(i int) int { return r.first + min(i, r.count-1) }

// initial is the noise that the batch starts from.
func (r *round) initial() []float32 {
	var out []float32
	for i := range r.shape.Batch {
		i = r.index(i)
		if size := r.latentSize(); r.request.Latents != nil {
			out = append(out, r.request.Latents[i*size:(i+1)*size]...)
		} else {
			out = AppendNoise(out, r.request.Seeds[i], size)
		}
	}
	return out
}

// conditions are the conditioning images of the batch.
func (r *round) conditions() []float32 {
	var out []float32
	size := r.conditionSize()
	for i := range r.shape.Batch {
		i = r.index(i)
		if len(r.request.Conditions) == size {
			i = 0
		}
		out = append(out, r.request.Conditions[i*size:(i+1)*size]...)
	}
	return out
}

// read copies the rows of the wanted images from the devices.
func (r *round) read(a *xla.Array) ([]float32, error) {
	x, err := xla.Get[float32](a)
	if err != nil {
		return nil, err
	}
	return x[:len(x)/r.shape.Batch*r.count], nil
}

// checkFinite names the first image whose values hold NaN or infinity.
func (r *round) checkFinite(what string, x []float32) error {
	size := len(x) / r.count
	for i := range r.count {
		if !finite(x[i*size : (i+1)*size]) {
			return fmt.Errorf("%s of image %d (prompt %q) are not finite numbers after %d steps: check the weights, or try a smaller guidance_scale",
				what, r.index(i), r.request.Prompts[r.index(i)], len(r.steps))
		}
	}
	return nil
}

// image rounds pixels [height, width, 3] in [0, 1] to bytes, halves to even as numpy does.
func (r *round) image(pixels []float32) *data.RGB {
	m := data.NewRGB(r.shape.Width, r.shape.Height)
	for i, v := range pixels {
		m.Pix[i] = uint8(math.RoundToEven(float64(v * 255)))
	}
	return m
}

// keep puts data on the devices until the round ends.
func keep[T float32 | int32](r *round, data []T, sharding xla.Sharding, dims ...int) (*xla.Array, error) {
	a, err := xla.Put(r.backend, data, sharding, dims...)
	if err == nil {
		r.arrays = append(r.arrays, a)
	}
	return a, err
}

// free releases what the round put on the devices.
func (r *round) free() error {
	var errs []error
	for _, a := range r.arrays {
		errs = append(errs, a.Free())
	}
	return errors.Join(errs...)
}

// warnOfCuts names the prompts that are longer than the text encoder takes.
func (p *Pipeline) warnOfCuts(r Request) {
	warned := map[string]bool{}
	for _, prompt := range slices.Concat(r.Prompts, r.NegativePrompts) {
		tokenizer := p.model.Pipeline.Tokenizer
		if _, cut := tokenizer.EncodePadded(prompt); cut && !warned[prompt] {
			warned[prompt] = true
			fmt.Fprintf(p.model.Log, "prompt %q is cut after %d tokens\n", prompt, tokenizer.MaxLength()-2)
		}
	}
}
