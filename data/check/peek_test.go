package check

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/data"
	"limner/data/imaging"
	"limner/internal/settings"
)

// The picture holds the pixels of the first batch of that epoch, and the text its captions.
func TestPeek(t *testing.T) {
	d := newDataset(t, 6)
	d.check(nil) // writes the metadata
	for _, c := range []struct {
		condition string
		epoch     int
	}{{"", 0}, {"", 3}, {"outline", 1}} {
		o := settings.Default[PeekOptions]()
		o.Resolution, o.Count, o.RandomFlip, o.Seed, o.Epoch, o.Condition = 48, 4, true, 5, c.epoch, c.condition
		picture := filepath.Join(t.TempDir(), "new", "peek.png")
		if err := Peek(t.Context(), []string{d.dir}, o, picture, nil); err != nil {
			t.Fatal(err)
		}
		want := data.DefaultOptions()
		want.Resolution, want.BatchSize, want.RandomFlip, want.Seed, want.Condition = 48, 4, true, 5, c.condition
		set, err := data.Open([]string{d.dir}, want)
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		batches, err := set.Batches(t.Context(), c.epoch)
		if err != nil {
			t.Fatal(err)
		}
		defer batches.Close()
		b, err := batches.Next()
		if err != nil {
			t.Fatal(err)
		}
		_, m, err := imaging.Decoding{}.DecodeFile(picture)
		if err != nil {
			t.Fatal(err)
		}
		// Two columns of pairs: the second example begins after the first pair and the gap.
		image := imaging.AppendPixels(nil, imaging.Crop(m, 2*peekGap+2*48, peekGap, 48, 48))
		condition := imaging.AppendCondition(nil, imaging.Crop(m, 2*peekGap+3*48, peekGap, 48, 48))
		for k, v := range b.Pixels[3*48*48 : 2*3*48*48] {
			if image[k] != v || condition[k] != b.Conditioning[3*48*48+k] {
				t.Fatalf("%+v: value %d differs", c, k)
			}
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(picture), "peek.txt"))
		if err != nil || bytes.Count(text, []byte("\n")) != 4 || !strings.Contains(string(text), b.Captions[3]) ||
			strings.Contains(string(text), "turned around") != (b.Views[0].Flipped || b.Views[1].Flipped ||
				b.Views[2].Flipped || b.Views[3].Flipped) {
			t.Errorf("%+v: got %q (%v)", c, text, err)
		}
	}
}

func TestPeekRefuses(t *testing.T) {
	for _, change := range []func(*PeekOptions){
		func(o *PeekOptions) { o.Count = 0 },
		func(o *PeekOptions) { o.Count = 1 << 40 },
		func(o *PeekOptions) { o.Epoch = -1 },
		func(o *PeekOptions) { o.Resolution = 0 },
	} {
		o := settings.Default[PeekOptions]()
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&o)
		picture := filepath.Join(t.TempDir(), "peek.png")
		if err := Peek(t.Context(), []string{t.TempDir()}, o, picture, nil); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
