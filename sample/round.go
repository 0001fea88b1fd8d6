package sample

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"limner/data/imaging"
	"limner/sample/schedule"
	"limner/xla"
	"limner/xla/program"
)

// callProgram is the program of one call of a schedule.
type callProgram struct {
	*program.Program
	key stepKey
}

// round samples at most a batch of images.
type round struct {
	p           *Pipeline
	request     Request
	schedule    schedule.Schedule
	calls       []callProgram
	texts       *embeddings
	projector   *program.Program
	first       int        // index of the first image
	count       int        // images that are wanted
	done, total int        // calls, over all rounds
	latents     *xla.Array // of all images of the round, as the last call left them
	arrays      []*xla.Array
}

// decoded are the pixels of a batch: on the devices or, if they were decoded in pieces, on the host.
type decoded struct {
	rows []*xla.Array // by place: the image there of every device
	host []float32
}

// decode begins to decode latents.
func (r *round) decode(ctx context.Context, latents *xla.Array) (decoded, error) {
	if r.p.tiled() {
		values, err := xla.Get[float32](latents)
		if err != nil {
			return decoded{}, err
		}
		host, err := r.p.decodePieces(ctx, values)
		return decoded{host: host}, err
	}
	var d decoded
	for _, i := range r.deviceRows() {
		row, err := xla.Put(r.p.backend, []int32{int32(i)}, xla.Replicated)
		if err != nil {
			return d, err
		}
		r.arrays = append(r.arrays, row)
		out, err := r.p.apply(r.p.decoder, program.Arrays{inputLatents: latents, inputRow: row})
		if err != nil {
			return d, fmt.Errorf("decode images: %w", err)
		}
		r.keepAll(out)
		d.rows = append(d.rows, out[outputImages])
	}
	return d, nil
}

// fetch brings latents and pixels to the host and gives the images to OnImage.
func (r *round) fetch(d decoded) error {
	latents, err := r.get(r.latents)
	if err != nil {
		return err
	}
	return r.pixels(d, func(at int, pixels []float32) error {
		image := Image{
			Index: r.first + at, Picture: r.image(pixels),
			Latents: latents[at*r.p.latentSize() : (at+1)*r.p.latentSize()],
		}
		image.Problem = r.problem(image, pixels)
		return r.request.OnImage(image)
	})
}

// pixels brings the wanted images to the host, one of each device at a time, and gives them by their number in the
// round.
func (r *round) pixels(d decoded, give func(at int, pixels []float32) error) error {
	size := r.p.shape.Height * r.p.shape.Width * 3
	if d.rows == nil {
		values := r.wanted(d.host)
		for at := range r.count {
			if err := give(at, values[at*size:(at+1)*size]); err != nil {
				return err
			}
		}
		return nil
	}
	for k, i := range r.deviceRows() {
		images, err := xla.Get[float32](d.rows[k])
		if err != nil {
			return err
		}
		for device := range r.p.backend.Devices() {
			at := r.p.row(device, i) - r.request.Row
			if at < 0 || at >= r.count {
				continue
			}
			if err := give(at, images[device*size:(device+1)*size]); err != nil {
				return err
			}
		}
	}
	return nil
}

// problem says what is wrong with an image, if something is.
func (r *round) problem(image Image, pixels []float32) error {
	what := "is all black"
	switch {
	case !finite(image.Latents):
		what = fmt.Sprintf("has latents that are not finite numbers after %d steps", len(r.calls))
	case !finite(pixels):
		what = "has pixels that are not finite numbers: the VAE overflows; use f32"
	case slices.Max(image.Picture.Pix) > 0:
		return nil
	}
	return fmt.Errorf("prompt %q, guidance_scale %g: the image %s: check the weights and the scheduler, "+
		"or try a smaller guidance_scale",
		r.request.Prompts[image.Index], r.request.GuidanceScale, what)
}

// index is the image in row i of the batch; rows without one repeat the nearest.
func (r *round) index(i int) int { return r.first + min(max(i-r.request.Row, 0), r.count-1) }

// wanted are the rows of x [batch, …] that hold the images.
func (r *round) wanted(x []float32) []float32 {
	size := len(x) / r.p.shape.Batch
	return x[r.request.Row*size : (r.request.Row+r.count)*size]
}

// deviceRows are the rows of a device, of which some device has a wanted image in that row.
func (r *round) deviceRows() []int {
	var rows []int
	for i := range r.p.perDevice() {
		for device := range r.p.backend.Devices() {
			if at := r.p.row(device, i) - r.request.Row; at >= 0 && at < r.count {
				rows = append(rows, i)
				break
			}
		}
	}
	return rows
}

// rows puts together what belongs to the images of the batch. of has size values for each image, or for all.
func (r *round) rows(of []float32, size int) []float32 {
	out := make([]float32, 0, r.p.shape.Batch*size)
	for i := range r.p.shape.Batch {
		i = r.index(i)
		if len(of) == size {
			i = 0
		}
		out = append(out, of[i*size:(i+1)*size]...)
	}
	return out
}

// normals are unit normals for the latents of the batch.
func (r *round) normals(purpose uint64) []float32 {
	var out []float32
	for i := range r.p.shape.Batch {
		i, size := r.index(i), r.p.latentSize()
		switch {
		case purpose == purposeLatents && r.request.Latents != nil:
			out = append(out, r.request.Latents[i*size:(i+1)*size]...)
		case r.request.draws != nil:
			out = append(out, r.request.draws(i, purpose, size)...)
		default:
			out = appendNormals(out, r.request.Seeds[i], purpose, size)
		}
	}
	return out
}

// get copies the rows of the wanted images from the devices.
func (r *round) get(a *xla.Array) ([]float32, error) {
	x, err := xla.Get[float32](a)
	if err != nil {
		return nil, err
	}
	return r.wanted(x), nil
}

// image rounds pixels [height, width, 3] in [0, 1] to bytes, halves to even as numpy does. NaN is black.
func (r *round) image(pixels []float32) *imaging.RGB {
	m := imaging.NewRGB(r.p.shape.Width, r.p.shape.Height)
	for i, v := range pixels {
		if v >= 0 { // NaN is not
			m.Pix[i] = uint8(math.RoundToEven(float64(v * 255)))
		}
	}
	return m
}

// keep puts data on the devices until the round ends.
func keep[T float32 | int32](r *round, data []T, sharding xla.Sharding, dims ...int) (*xla.Array, error) {
	a, err := xla.Put(r.p.backend, data, sharding, dims...)
	if err == nil {
		r.arrays = append(r.arrays, a)
	}
	return a, err
}

// keepAll keeps what a program gave back until the round ends.
func (r *round) keepAll(arrays program.Arrays) {
	r.arrays = slices.AppendSeq(r.arrays, maps.Values(arrays))
}

// putLatents puts values like the latents of the batch on the devices, for the caller to free.
func (r *round) putLatents(values []float32) (*xla.Array, error) {
	return xla.Put(r.p.backend, values, xla.Batch, r.p.latentsValue().Shape.Dimensions...)
}

// free releases what the round put on the devices.
func (r *round) free() error { return xla.FreeAll(r.arrays) }
