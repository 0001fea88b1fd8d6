package data

// captionStream separates the random draws of captions from others of the same seed.
const captionStream = 0x63617074

// drawCaption chooses among the captions of a row that has several, by the seed and the occurrence.
func (d *Dataset) drawCaption(r *Row, at occurrence) {
	if len(r.Captions) > 1 {
		r.Caption = r.Captions[at.rng(d.options.Seed, captionStream).IntN(len(r.Captions))]
	}
}
