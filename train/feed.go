package train

import (
	"math/rand/v2"

	"limner/data"
	"limner/models/clip"
	"limner/xla"
)

// DiffusionFeed puts the batches of a diffusion objective on the devices.
type DiffusionFeed struct {
	Backend   *xla.Backend
	Diffusion Diffusion
	Tokenizer *clip.Tokenizer
	Moments   [][]float32 // of each row of the dataset, with cached latents
	Dropout   float64     // share of captions replaced by the empty one, for guidance
	Seed      uint64
}

// Put is Run's Feed.
func (f DiffusionFeed) Put(batch *data.Batch) ([]*xla.Array, error) {
	d := f.Diffusion
	var arrays []*xla.Array
	put := func(a *xla.Array, err error) error {
		arrays = append(arrays, a)
		return err
	}
	if d.CachedLatents {
		side := d.Resolution / d.VAE.Scale()
		var moments []float32
		for _, row := range batch.Rows {
			moments = append(moments, f.Moments[row]...)
		}
		if err := put(xla.Put(f.Backend, moments, xla.Batch, d.Batch, side, side, 2*d.VAE.LatentChannels)); err != nil {
			return nil, err
		}
	} else if err := put(xla.Put(f.Backend, batch.Pixels, xla.Batch, d.Batch, d.Resolution, d.Resolution, 3)); err != nil {
		return nil, err
	}
	if err := put(xla.Put(f.Backend, f.tokens(batch), xla.Batch, d.Batch, d.Tokens)); err != nil {
		return nil, err
	}
	if d.ControlNet != nil {
		if err := put(xla.Put(f.Backend, batch.Conditioning, xla.Batch, d.Batch, d.Resolution, d.Resolution, 3)); err != nil {
			return nil, err
		}
	}
	return arrays, nil
}

// captionStream tells the draws of caption dropout from other draws of the same seed.
const captionStream = 0x63617074696f6e73

// tokens are the captions' ids [batch, tokens]. Which are dropped follows from the seed and the batch's index.
func (f DiffusionFeed) tokens(batch *data.Batch) []int32 {
	rng := rand.New(rand.NewPCG(f.Seed^captionStream, uint64(batch.Index)))
	ids := make([]int32, 0, f.Diffusion.Batch*f.Diffusion.Tokens)
	for _, caption := range batch.Captions {
		if rng.Float64() < f.Dropout {
			caption = ""
		}
		row, _ := f.Tokenizer.EncodePadded(caption)
		ids = append(ids, row...)
	}
	return ids
}
