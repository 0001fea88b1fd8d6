package train

import (
	"fmt"
	"math/rand/v2"

	"limner/data"
	"limner/models/clip"
	"limner/train/latents"
	"limner/train/loss"
	"limner/xla"
	"limner/xla/program"
)

// DiffusionFeed puts the batches of a diffusion objective on the devices: a process's rows on its own.
type DiffusionFeed struct {
	Backend    *xla.Backend
	Diffusion  loss.Diffusion
	Tokenizer  *clip.Tokenizer
	Tokenizer2 *clip.Tokenizer                       // of SDXL
	Caption    func(batch *data.Batch, i int) string // of row i
	Moments    latents.Moments                       // with cached latents
	Dropout    float64                               // share of captions replaced by the empty one, for guidance
	Seed       uint64
}

// Put is Run's Feed.
func (f DiffusionFeed) Put(batch *data.Batch) (program.Arrays, error) {
	captions := f.captions(batch)
	arrays := program.Arrays{}
	for _, value := range f.Diffusion.Inputs() {
		a, err := f.put(value, batch, captions)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", value.Name, err)
		}
		arrays[value.Name] = a
	}
	return arrays, nil
}

// put brings one input of the batch to the devices.
func (f DiffusionFeed) put(value xla.Value, batch *data.Batch, captions []string) (*xla.Array, error) {
	dims := value.Shape.Dimensions
	switch value.Name {
	case loss.InputTokens:
		return xla.PutRows(f.Backend, tokenIDs(f.Tokenizer, captions), dims...)
	case loss.InputTokens2:
		return xla.PutRows(f.Backend, tokenIDs(f.Tokenizer2, captions), dims...)
	}
	var values []float32
	switch value.Name {
	case loss.InputPixels:
		values = batch.Pixels
	case loss.InputCondition:
		values = batch.Conditioning
	case loss.InputMask:
		values = batch.Masks
	case loss.InputTimeIDs:
		for _, view := range batch.Views {
			values = append(values, float32(view.Height), float32(view.Width), float32(view.Top), float32(view.Left),
				float32(f.Diffusion.Resolution), float32(f.Diffusion.Resolution))
		}
	case loss.InputMoments:
		for i, row := range batch.Rows {
			values = append(values, f.Moments.Of(row, batch.Views[i].Flipped)...)
		}
	}
	return xla.PutRows(f.Backend, values, dims...)
}

// captionStream tells the draws of caption dropout from other draws of the same seed.
const captionStream = 0x63617074696f6e73

// dropped says whether the caption of a row is left out in an epoch, however the rows are divided into batches.
func (f DiffusionFeed) dropped(epoch int, row int64) bool {
	rng := rand.New(rand.NewPCG(f.Seed^captionStream, uint64(epoch)<<40^uint64(row)))
	return rng.Float64() < f.Dropout
}

// captions are those of the batch's rows.
func (f DiffusionFeed) captions(batch *data.Batch) []string {
	captions := make([]string, len(batch.Rows))
	for i, row := range batch.Rows {
		if !f.dropped(batch.Epoch, row) {
			captions[i] = f.Caption(batch, i)
		}
	}
	return captions
}

// tokenIDs are the captions' ids [batch, tokens].
func tokenIDs(tokenizer *clip.Tokenizer, captions []string) []int32 {
	var ids []int32
	for _, caption := range captions {
		row, _ := tokenizer.EncodePadded(caption)
		ids = append(ids, row...)
	}
	return ids
}
