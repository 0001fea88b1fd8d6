package main

import (
	"fmt"
	"slices"

	"limner/models/checkpoint"
	"limner/sample"
)

// latentsKey is the tensor of a file of latents, [images, channels, height/8, width/8] as PyTorch has them.
const latentsKey = "latents"

// latentsFile is where --save_latents writes to.
const latentsFile = "latents.safetensors"

// readLatents gives each job its latents of the file, if there is one.
func (c *sampleCmd) readLatents(work []*job, m sample.Model) error {
	if c.Latents == "" {
		return nil
	}
	f, err := checkpoint.Open(c.Latents)
	if err != nil {
		return fmt.Errorf("load latents: %w", err)
	}
	defer f.Close()
	tensor, ok := f.Tensor(latentsKey)
	if !ok {
		return fmt.Errorf("load latents: %s has no tensor %s", c.Latents, latentsKey)
	}
	values, err := tensor.Float32s()
	if err != nil {
		return fmt.Errorf("load latents: %s: %w", c.Latents, err)
	}
	sum, err := fileSum(c.Latents)
	if err != nil {
		return err
	}
	scale, channels := m.Pipeline.VAE.Scale(), m.Pipeline.VAE.LatentChannels
	for i, j := range work {
		j.files = append(j.files, named(noiseFlag, c.Latents, sum))
		want := []int{len(work), channels, j.Height / scale, j.Width / scale}
		if !slices.Equal(tensor.Shape, want) {
			return fmt.Errorf("load latents: %s: %s has the shape %v, want %v for %d images of %d×%d pixels", c.Latents, latentsKey, tensor.Shape, want, len(work), j.Width, j.Height)
		}
		size := len(values) / len(work)
		j.latents = swapped(values[i*size:(i+1)*size], channels)
	}
	return nil
}

// writeLatents writes the latents after the last step: as one tensor or, where sizes differ, as one for each image.
func (a *artist) writeLatents(path string) error {
	channels, scale := a.model.Pipeline.VAE.LatentChannels, a.model.Pipeline.VAE.Scale()
	first := a.work[0]
	same := !slices.ContainsFunc(a.work, func(j *job) bool { return j.Height != first.Height || j.Width != first.Width })
	var entries []checkpoint.Entry
	var all []float32
	for i, j := range a.work {
		values := swapped(j.final, len(j.final)/channels)
		all = append(all, values...)
		shape := []int{1, channels, j.Height / scale, j.Width / scale}
		entries = append(entries, checkpoint.Entry{
			Key: fmt.Sprintf("%s.%d", latentsKey, i), DType: "F32", Shape: shape, Float32s: func() ([]float32, error) { return values, nil },
		})
	}
	if same {
		shape := []int{len(a.work), channels, first.Height / scale, first.Width / scale}
		entries = []checkpoint.Entry{{Key: latentsKey, DType: "F32", Shape: shape, Float32s: func() ([]float32, error) { return all, nil }}}
	}
	return checkpoint.Write(path, entries, nil)
}

// swapped is x [rows, n] as [n, rows].
func swapped(x []float32, rows int) []float32 {
	n := len(x) / rows
	out := make([]float32, len(x))
	for i := range rows {
		for k := range n {
			out[k*rows+i] = x[i*n+k]
		}
	}
	return out
}
