package train

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/data"
	"limner/models/nn"
	"limner/models/vae"
	"limner/xla"
)

// EncodeDataset computes the moments of every image of a dataset once, so that training need not: for each row
// [resolution/8, resolution/8, 2·latent_channels], the mean, then the log variance. Rows that cannot be read have none;
// the dataset reports them. values hold the VAE's parameters below "vae".
func EncodeDataset(ctx context.Context, b *xla.Backend, c vae.Config, values nn.Values, d *data.Dataset, resolution, batch int, progress func(done, total int)) ([][]float32, error) {
	tree := c.EncoderTree().Under("vae")
	f := xla.Function{Name: "vae_encode", Outputs: []xla.Sharding{xla.Batch}}
	var args []*xla.Array
	for _, spec := range tree {
		f.Inputs = append(f.Inputs, xla.Value{Name: spec.Key, Shape: shapes.Make(dtypes.Float32, spec.Shape...)})
		a, err := xla.Put(b, values[spec.Key], xla.Replicated, spec.Shape...)
		if err != nil {
			return nil, err
		}
		defer a.Free()
		args = append(args, a)
	}
	f.Inputs = append(f.Inputs, batchValue("pixels", dtypes.Float32, batch, resolution, resolution, c.InChannels))
	f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
		mean, logvar := c.Encode(nn.Bind(tree, in[:len(tree)]).In("vae"), in[len(tree)])
		return nil, []*Node{Concatenate([]*Node{mean, logvar}, -1)}
	}
	program, err := b.Compile(ctx, f)
	if err != nil {
		return nil, err
	}
	moments := make([][]float32, d.Len())
	pixels := make([]float32, 0, batch*resolution*resolution*3)
	var rows []int
	encode := func() error {
		full := append(pixels, make([]float32, cap(pixels)-len(pixels))...)
		out, err := runOne(b, program, args, full, batch, resolution, resolution, c.InChannels)
		if err != nil {
			return err
		}
		size := len(out) / batch
		for i, row := range rows {
			moments[row] = out[i*size : (i+1)*size : (i+1)*size]
		}
		pixels, rows = pixels[:0], rows[:0]
		return nil
	}
	for i := range d.Len() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%w while encoding the dataset, nothing was lost: run again", ErrInterrupted)
		}
		if row, err := d.Row(i); err == nil {
			image, err := data.Fit(row.Image, resolution)
			if err != nil {
				return nil, err
			}
			pixels = data.AppendPixels(pixels, image)
			rows = append(rows, i)
		}
		if len(rows) == batch || i == d.Len()-1 && len(rows) > 0 {
			if err := encode(); err != nil {
				return nil, err
			}
		}
		progress(i+1, d.Len())
	}
	return moments, nil
}

// runOne runs a program on one batch and frees what it made.
func runOne(b *xla.Backend, program *xla.Program, args []*xla.Array, input []float32, dims ...int) ([]float32, error) {
	in, err := xla.Put(b, input, xla.Batch, dims...)
	if err != nil {
		return nil, err
	}
	defer in.Free()
	out, err := program.Run(nil, append(append([]*xla.Array{}, args...), in)...)
	if err != nil {
		return nil, err
	}
	defer out[0].Free()
	return xla.Get[float32](out[0])
}
