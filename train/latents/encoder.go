// Package latents encodes the images of a dataset ahead of training, and keeps what was encoded on the disk for other
// runs.
package latents

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/data/imaging"
	"limner/internal/refusal"
	"limner/internal/units"
	"limner/models/nn"
	"limner/models/sd"
	"limner/models/vae"
	"limner/train/loss"
	"limner/xla"
	"limner/xla/program"
)

// Encoder computes the moments of a dataset's images once, so that training need not.
type Encoder struct {
	Backend    *xla.Backend
	VAE        vae.Config
	Weights    nn.Source // with the VAE's parameters below "vae"
	Resolution int       // pixels of an image, each way
	Batch      int       // images encoded at once
	Flips      bool      // encode each image turned around too
	CacheDir   string    // keeps what was encoded for other runs; "" does not
	Progress   func(done, total int)
	Log        io.Writer // hears what the cache was good for; nil: silence
}

// Moments are those of each row of a dataset: float32 [resolution/8, resolution/8, 2·latent_channels], the mean, then
// the log variance. Rows that cannot be read have none.
type Moments struct{ Upright, Flipped [][]float32 }

// Of gives those of a row's image, upright or turned around.
func (m Moments) Of(row int64, flipped bool) []float32 {
	if flipped {
		return m.Flipped[row]
	}
	return m.Upright[row]
}

// Encode encodes every image of the dataset. The program is compiled when the first image needs it.
func (e Encoder) Encode(ctx context.Context, d *data.Dataset) (m Moments, err error) {
	if err := e.checkMemory(d); err != nil {
		return m, err
	}
	queue := &encodeQueue{e: e, dataset: d}
	defer func() {
		if closed := queue.close(); err == nil { // of two errors the first says more
			err = closed
		}
	}()
	if e.CacheDir != "" {
		if queue.cache, err = newCache(e.CacheDir, e.VAE, e.Weights, e.Resolution); err != nil {
			return m, err
		}
	}
	m.Upright, m.Flipped = make([][]float32, d.Len()), make([][]float32, d.Len())
	for i, views := range data.Map(d, queue.views) {
		if err := ctx.Err(); err != nil {
			return m, err
		}
		for k, to := range []*[]float32{&m.Upright[i], &m.Flipped[i]}[:len(views)] {
			if err := queue.add(ctx, views[k], to); err != nil {
				return m, err
			}
		}
		e.Progress(i+1, d.Len())
	}
	if err := queue.flush(ctx); err != nil {
		return m, err
	}
	if queue.cache != nil && e.Log != nil {
		queue.cache.report(func(format string, args ...any) { fmt.Fprintf(e.Log, format+"\n", args...) }, queue.made)
	}
	return m, nil
}

// checkMemory fails where the moments of all images do not fit this machine's memory.
func (e Encoder) checkMemory(d *data.Dataset) error {
	side := e.Resolution / e.VAE.Scale()
	each := 4 * side * side * 2 * e.VAE.LatentChannels
	if e.Flips {
		each *= 2
	}
	need := float64(each) * float64(d.Len())
	if free := xla.FreeMemory(); free > 0 && need > float64(free) {
		return refusal.Errorf("cache_latents: those of %d rows take %s of memory, %s are free: "+
			"leave --cache_latents out, or give a smaller --resolution",
			d.Len(), units.Bytes(int64(min(need, 1e18))), units.Bytes(free))
	}
	return nil
}

// compile makes the program that encodes a batch, and puts the VAE's parameters on the devices.
func (e Encoder) compile(ctx context.Context) (*program.Program, program.Arrays, error) {
	tree := e.VAE.EncoderTree().Under("vae")
	f := program.Function{
		Name: "vae_encode", Apart: true, Inputs: program.Parameters(tree, dtypes.Float32),
		Outputs: []xla.Value{{Name: loss.InputMoments, Sharding: xla.Batch}},
	}
	params := program.Arrays{}
	if err := params.Load(e.Backend, e.Weights, tree, f.Inputs); err != nil {
		return nil, params, err
	}
	pixels := loss.BatchValue(loss.InputPixels, dtypes.Float32, e.Batch, e.Resolution, e.Resolution, e.VAE.InChannels)
	f.Inputs = append(f.Inputs, pixels)
	f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		moments := sd.Moments(e.VAE, program.BindForward(e.Backend, tree, in), in.Get(loss.InputPixels))
		return nil, program.Nodes{loss.InputMoments: moments}
	}
	compiled, err := program.Compile(ctx, e.Backend, f)
	return compiled, params, err
}

// encodeQueue holds images until there are enough for a batch.
type encodeQueue struct {
	e       Encoder
	dataset *data.Dataset
	cache   *cache           // nil: none
	program *program.Program // nil until it is needed
	params  program.Arrays
	pixels  []float32
	to      []*[]float32
	paths   []string // in the cache
	made    int
}

// view is an image of a row on its way to the encoder.
type view struct {
	image *imaging.RGB // as the VAE sees it
	path  string       // in the cache
}

// views does what can be done to several rows at once: it gives the row's image upright and, with Flips, turned around.
// A row that cannot be read or fitted has none; no batch will hold it, and the dataset reports it.
func (q *encodeQueue) views(row data.Row, err error) []view {
	if err != nil {
		return nil
	}
	image, err := q.dataset.Fit(row.Image)
	if err != nil {
		return nil
	}
	views := []view{{image: image}}
	if q.e.Flips {
		views = append(views, view{image: imaging.Mirror(image)})
	}
	if q.cache != nil {
		for i := range views {
			views[i].path = q.cache.path(views[i].image)
		}
	}
	return views
}

// add finds the image's moments in the cache, or encodes it with others.
func (q *encodeQueue) add(ctx context.Context, v view, to *[]float32) error {
	if q.cache != nil {
		if *to = q.cache.get(v.path); *to != nil {
			return nil
		}
	}
	q.pixels, q.to, q.paths = imaging.AppendPixels(q.pixels, v.image), append(q.to, to), append(q.paths, v.path)
	if len(q.to) < q.e.Batch {
		return nil
	}
	return q.flush(ctx)
}

// flush encodes what waits, with the batch filled up by nothing.
func (q *encodeQueue) flush(ctx context.Context) (err error) {
	if len(q.to) == 0 {
		return nil
	}
	e := q.e
	if q.program == nil {
		if q.program, q.params, err = e.compile(ctx); err != nil {
			return err
		}
	}
	full := append(q.pixels, make([]float32, e.Batch*e.Resolution*e.Resolution*e.VAE.InChannels-len(q.pixels))...)
	out, err := q.encode(full)
	if err != nil {
		return err
	}
	if q.cache != nil { // the entries of the batch before, which were written while this one was made
		if err := q.cache.wait(); err != nil {
			return err
		}
	}
	size := len(out) / e.Batch
	for i, to := range q.to {
		*to = out[i*size : (i+1)*size : (i+1)*size]
		if q.cache != nil {
			q.cache.put(q.paths[i], *to)
		}
	}
	q.made += len(q.to)
	q.pixels, q.to, q.paths = q.pixels[:0], q.to[:0], q.paths[:0]
	return nil
}

// close waits for what is being written and releases the VAE's parameters.
func (q *encodeQueue) close() error {
	freed := q.params.Free()
	if q.cache == nil {
		return freed
	}
	return errors.Join(q.cache.wait(), freed)
}

// encode gives the moments of a batch of pixels.
func (q *encodeQueue) encode(pixels []float32) (moments []float32, err error) {
	e := q.e
	in, err := xla.Put(e.Backend, pixels, xla.Batch, e.Batch, e.Resolution, e.Resolution, e.VAE.InChannels)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Free()) }()
	out, err := q.program.Run(nil, program.Arrays{loss.InputPixels: in}, q.params)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Free()) }()
	return xla.Get[float32](out[loss.InputMoments])
}
