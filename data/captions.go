package data

import "math/rand/v2"

// captionStream separates the random draws of captions from others of the same seed.
const captionStream = 0x63617074

// drawCaption chooses among the captions of a row that has several, by the seed, the row and the epoch.
func (d *Dataset) drawCaption(r *Row, row int64, epoch int) {
	if len(r.Captions) > 1 {
		rng := rand.New(rand.NewPCG(d.options.Seed^captionStream, uint64(epoch)<<40^uint64(row)))
		r.Caption = r.Captions[rng.IntN(len(r.Captions))]
	}
}
