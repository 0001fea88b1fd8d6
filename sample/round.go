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
	texts, err := p.encode(ctx, r)
	if err != nil {
		return nil, err
	}
	program, err := p.stepProgram(ctx, stepKey{guided(r.GuidanceScale), texts.chunks})
	if err != nil {
		return nil, err
	}
	rounds := (len(r.Prompts) + p.shape.Batch - 1) / p.shape.Batch
	result := &Result{}
	for i := range rounds {
		round := &round{
			Pipeline: p, program: program, request: r, texts: texts, steps: steps,
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
	program     *xla.Program
	request     Request
	texts       *embeddings
	steps       []Coefficients
	first       int // index of the first image
	count       int // images that are wanted
	done, total int // steps, over all rounds
	arrays      []*xla.Array
}

func (r *round) run(ctx context.Context, result *Result) error {
	latents, err := r.denoise(ctx)
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

// context puts what the network is told of the prompts on the devices, with guidance that of the negative prompt before that
// of the prompt.
func (r *round) context() ([]*xla.Array, error) {
	var text, pooled, ids []float32
	rows := 0
	add := func(e embedding) {
		text, pooled, ids = append(text, e.text...), append(pooled, e.pooled...), append(ids, r.timeIDs()...)
		rows++
	}
	for i := range r.shape.Batch {
		i = r.index(i)
		if r.texts.negative != nil {
			add(r.texts.negative[i])
		}
		add(r.texts.prompt[i])
	}
	width := r.model.Pipeline.UNet.CrossAttentionDim
	a, err := keep(r, text, xla.Batch, rows, len(text)/rows/width, width)
	if err != nil || r.model.Pipeline.XL == nil {
		return []*xla.Array{a}, err
	}
	b, err := keep(r, pooled, xla.Batch, rows, len(pooled)/rows)
	if err != nil {
		return nil, err
	}
	c, err := keep(r, ids, xla.Batch, rows, timeIDs)
	return []*xla.Array{a, b, c}, err
}

// timeIDs are the sizes that SDXL is told.
func (r *round) timeIDs() []float32 {
	size := [2]int{r.shape.Height, r.shape.Width}
	original, target := r.request.OriginalSize, r.request.TargetSize
	if original == [2]int{} {
		original = size
	}
	if target == [2]int{} {
		target = size
	}
	crop := r.request.CropsCoordsTopLeft
	return []float32{
		float32(original[0]), float32(original[1]), float32(crop[0]), float32(crop[1]), float32(target[0]), float32(target[1]),
	}
}

// denoise runs the loop over the timesteps.
func (r *round) denoise(ctx context.Context) (*xla.Array, error) {
	latents, err := keep(r, r.initial(), xla.Batch, r.Pipeline.latents().Shape.Dimensions...)
	if err != nil {
		return nil, err
	}
	scales := r.request.scales(len(r.model.LoRAs))
	loras, err := keep(r, scales, xla.Replicated, len(scales))
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
	inputs, err := r.context()
	if err != nil {
		return nil, err
	}
	if c := r.model.ControlNet; c != nil {
		a, err := keep(r, r.conditions(), xla.Batch, r.shape.Batch, r.shape.Height, r.shape.Width, c.ConditioningChannels)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, a)
	}
	for i, step := range r.steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		coefficients, err := keep(r, step.vector(), xla.Replicated, coefficientCount)
		if err != nil {
			return nil, err
		}
		args := r.arguments(r.trees.step, append([]*xla.Array{loras, coefficients, guidance, conditioning}, inputs...)...)
		if _, err := r.program.Run([]*xla.Array{latents}, args...); err != nil {
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
