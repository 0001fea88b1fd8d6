package data

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The parts of a batch are together what the whole is, over the end of an epoch and wherever the run begins: beside
// rows of a class, with masks, and with rows turned around and cropped anywhere.
func TestParts(t *testing.T) {
	dir, class := writeCircles(t, smallCircles()), writeCircles(t, smallCircles())
	o := testOptions()
	o.RandomFlip, o.RandomCrop, o.MaskColumn = true, true, "conditioning_image"
	for name, open := range map[string]func(Options) (*Dataset, error){
		"alone":          func(o Options) (*Dataset, error) { return Open([]string{dir}, o) },
		"beside a class": func(o Options) (*Dataset, error) { return OpenBoth([]string{dir}, []string{class}, o) },
	} {
		t.Run(name, func(t *testing.T) {
			from := func(o Options, start, count int) []*Batch {
				d, err := open(o)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				return take(t, d, start, count)
			}
			const parts, start = 4, 2
			o := o
			whole := from(o, start, 12)
			if first, last := whole[0].Epoch, whole[11].Epoch; first == last {
				t.Fatalf("all batches are of epoch %d", first)
			}
			joined := make([]*Batch, len(whole))
			for o.Parts = parts; o.Part < parts; o.Part++ {
				for i, b := range from(o, start, len(whole)) {
					j := joined[i]
					if j == nil {
						j = &Batch{Index: b.Index, Epoch: b.Epoch}
						joined[i] = j
					}
					j.Rows, j.Captions, j.Views = slices.Concat(j.Rows, b.Rows), slices.Concat(j.Captions, b.Captions),
						slices.Concat(j.Views, b.Views)
					j.Pixels, j.Conditioning = slices.Concat(j.Pixels, b.Pixels),
						slices.Concat(j.Conditioning, b.Conditioning)
					j.Masks = slices.Concat(j.Masks, b.Masks)
				}
			}
			sameBatches(t, fmt.Sprintf("%d parts", parts), whole, joined)
		})
	}
	o.Part, o.Parts = 0, 3
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "part 0 of 3 of a batch of 8") {
		t.Errorf("got %v, want that 8 rows make no 3 equal parts", err)
	}
}
