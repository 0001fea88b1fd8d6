package data

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"limner/controlnet/condition"
	"limner/data/imaging"
)

// View is the part of an image that a batch has.
type View struct {
	Height, Width int  // of the original image
	Top, Left     int  // of the crop, in pixels of the resized image, after a flip
	Flipped       bool // left and right are exchanged
}

// viewStream separates the random draws of views from others of the same seed.
const viewStream = 0x76696577

// occurrence is one of a row's occurrences in a run.
type occurrence struct {
	row        int64 // of the dataset
	epoch      int
	repetition int64 // within the epoch, from 0
}

// rng gives the random draws for an occurrence: they depend on it, the seed and the purpose alone.
func (o occurrence) rng(seed, purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(o.seed(seed)^purpose, uint64(o.epoch)<<40^uint64(o.row)))
}

// seed is the run's seed, another one for each repetition after the first.
func (o occurrence) seed(seed uint64) uint64 { return seed ^ uint64(o.repetition)*0x9e3779b97f4a7c15 }

// fit resizes and crops the images of a row to the resolution, all by the same crop and flip, and takes the condition
// from its image. The random choices depend on the seed and the occurrence.
func (d *Dataset) fit(r *Row, at occurrence) (View, error) {
	view := View{Height: r.Image.Height, Width: r.Image.Width}
	side := d.options.Resolution
	// A random crop may miss the white of a mask, and contain it in another epoch: so the whole mask is checked.
	if d.options.RandomCrop && r.Mask != nil && r.Mask.Black() {
		return view, errBlackMask(d.options.MaskColumn)
	}
	var x, y float64 = 0.5, 0.5 // the crop's position, from 0 at one end to 1 at the other
	if d.options.RandomCrop || d.options.RandomFlip {
		rng := at.rng(d.options.Seed, viewStream)
		u, v, flip := rng.Float64(), rng.Float64(), rng.Float64() < 0.5
		if d.options.RandomCrop {
			x, y = u, v
		}
		view.Flipped = flip && d.options.RandomFlip
	}
	filter := d.options.filter()
	for _, part := range []struct {
		name   string
		image  **imaging.RGB
		filter imaging.Filter
	}{
		{d.options.ImageColumn, &r.Image, filter},
		{d.options.ConditioningImageColumn, &r.Conditioning, filter},
		{d.options.MaskColumn, &r.Mask, imaging.Bilinear}, // the others overshoot, which is no weight of a loss
	} {
		m := *part.image
		if m == nil {
			continue
		}
		if err := SameShape(view, m.Width, m.Height, side); err != nil {
			return view, fmt.Errorf("%s: %w", part.name, err)
		}
		fitted, top, left, err := imaging.FitAt(m, side, part.filter, x, y)
		if err != nil {
			return view, fmt.Errorf("%s: %w", part.name, err)
		}
		if part.image == &r.Image {
			view.Top, view.Left = top, left
			if width, _ := imaging.FitSize(m.Width, m.Height, side); view.Flipped {
				view.Left = width - side - left
			}
		}
		*part.image = fitted
	}
	if r.depth != nil {
		var err error
		if r.depth, err = r.depth.FitAt(side, filter, x, y); err != nil {
			return view, fmt.Errorf("%s: %w", d.options.ConditioningImageColumn, err)
		}
	}
	if err := d.takeCondition(r, view, at); err != nil {
		return view, err
	}
	if view.Flipped {
		for _, image := range []**imaging.RGB{&r.Image, &r.Conditioning, &r.Mask} {
			if *image != nil {
				*image = imaging.Mirror(*image)
			}
		}
		if r.depth != nil {
			r.depth = r.depth.Mirror()
		}
		for rest := r.hidden; len(rest) >= side; rest = rest[side:] {
			slices.Reverse(rest[:side])
		}
	}
	if !d.options.RandomCrop && r.Mask != nil && r.Mask.Black() {
		return view, errBlackMask(d.options.MaskColumn)
	}
	return view, nil
}

// takeCondition takes the conditioning image from the image that is resized and cropped, where none is read. It comes
// before the flip, after which some conditions would be others.
func (d *Dataset) takeCondition(r *Row, view View, at occurrence) (err error) {
	if d.taken.None() {
		return nil
	}
	c := d.taken.Draw(at.seed(d.options.Seed), at.row, at.epoch)
	switch side := d.options.Resolution; {
	case c.Kind().Hides:
		r.Conditioning, r.hidden = r.Image, c.Hidden(side, side)
	case c.Kind().Keypoints:
		r.Conditioning, err = d.drawKeypoints(c, r, view)
	default:
		r.Conditioning, err = c.Apply(r.Image)
	}
	return err
}

// drawKeypoints draws the row's keypoints where they are in the image that is resized and cropped.
func (d *Dataset) drawKeypoints(c condition.Condition, r *Row, view View) (*imaging.RGB, error) {
	column, side := d.options.KeypointsColumn, d.options.Resolution
	text, ok := r.Extra[column]
	if !ok {
		return nil, fmt.Errorf("no %s, from which the condition is drawn: name their column with keypoints_column",
			column)
	}
	k, err := condition.ParseKeypoints([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", column, err)
	}
	if k.Width > 0 {
		if err := SameShape(view, k.Width, k.Height, side); err != nil {
			return nil, fmt.Errorf("%s: the canvas: %w", column, err)
		}
	}
	part := condition.Part{Left: view.Left, Top: view.Top, Width: side, Height: side}
	part.ResizedWidth, part.ResizedHeight = imaging.FitSize(view.Width, view.Height, side)
	m, err := c.Draw(k, view.Width, view.Height, part)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", column, err)
	}
	return m, nil
}

// Fit is what batches without a random crop and flip have of an image.
func (d *Dataset) Fit(m *imaging.RGB) (*imaging.RGB, error) {
	return imaging.Fit(m, d.options.Resolution, d.options.filter())
}

// filter resizes images and conditioning images.
func (o Reading) filter() imaging.Filter {
	if o.Interpolation == "" {
		return imaging.Bilinear
	}
	return o.Interpolation
}

// errBlackMask is the error for a row without weight in the loss: a batch of such rows would train nothing.
func errBlackMask(column string) error {
	return fmt.Errorf("%s: all black, so nothing of the image would count in the loss: white is what counts", column)
}

// SameShape fails if an image of width×height differs in shape from the row's first one by more than a pixel of
// rounding.
func SameShape(of View, width, height, side int) error {
	wantWidth, wantHeight := imaging.FitSize(of.Width, of.Height, side)
	gotWidth, gotHeight := imaging.FitSize(width, height, side)
	if max(wantWidth-gotWidth, gotWidth-wantWidth, wantHeight-gotHeight, gotHeight-wantHeight) > 1 {
		return fmt.Errorf("it is %d×%d, the image %d×%d: want the same shape, since both are cropped alike",
			width, height, of.Width,
			of.Height)
	}
	return nil
}
