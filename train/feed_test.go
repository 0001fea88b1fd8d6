package train

import (
	"slices"
	"testing"

	"limner/data"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/train/latents"
	"limner/train/loss"
	"limner/xla"
)

// The batch of an SDXL model: moments of the image as it is seen, ids of both tokenizers, and what is said of the crop.
func TestFeedXL(t *testing.T) {
	p, err := diffusers.Open(golden.Path(t, "sdxl-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	b := parity.Backend(t)
	d, _ := wholeDiffusion(t, "sdxl-tiny")
	d.Batch, d.Resolution = 2, 2*d.VAE.Scale() // 2×2 latents of 4 means and 4 log variances
	moments := func(v float32) []float32 { return slices.Repeat([]float32{v}, 2*2*8) }
	feed := DiffusionFeed{
		Backend: b, Diffusion: d, Tokenizer: p.Tokenizer, Tokenizer2: p.Tokenizer2,
		Caption: func(batch *data.Batch, i int) string { return batch.Captions[i] },
		Moments: latents.Moments{
			Upright: [][]float32{moments(1), moments(2)}, Flipped: [][]float32{moments(3), moments(4)},
		},
	}
	arrays, err := feed.Put(&data.Batch{
		Rows: []int64{1, 0}, Captions: []string{"a red circle", "two cats"},
		Views: []data.View{
			{Height: 100, Width: 80, Top: 5, Left: 0}, {Height: 30, Width: 60, Top: 0, Left: 7, Flipped: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	side := float32(d.Resolution)
	wantTimes := []float32{100, 80, 5, 0, side, side, 30, 60, 0, 7, side, side}
	for _, value := range d.Inputs() {
		switch value.Name {
		case loss.InputMoments:
			if got, err := xla.Get[float32](arrays[value.Name]); err != nil ||
				!slices.Equal(got, slices.Concat(moments(2), moments(3))) {
				t.Errorf("moments %v (%v)", got, err)
			}
		case loss.InputTimeIDs:
			if got, err := xla.Get[float32](arrays[value.Name]); err != nil || !slices.Equal(got, wantTimes) {
				t.Errorf("time ids %v, want %v (%v)", got, wantTimes, err)
			}
		case loss.InputTokens, loss.InputTokens2:
			tokenizer := map[string]*clip.Tokenizer{
				loss.InputTokens: p.Tokenizer, loss.InputTokens2: p.Tokenizer2,
			}[value.Name]
			want := tokenIDs(tokenizer, []string{"a red circle", "two cats"})
			if got, err := xla.Get[int32](arrays[value.Name]); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v (%v)", value.Name, got, want, err)
			}
		}
		if err := arrays[value.Name].Free(); err != nil {
			t.Error(err)
		}
	}
}
