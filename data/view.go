package data

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// View says which part of an image a batch shows.
type View struct {
	Height, Width int  // of the image as it was
	Top, Left     int  // of the crop, in pixels of the resized image as it is shown
	Flipped       bool // left is right
}

// viewStream tells the draws of views from other draws of the same seed.
const viewStream = 0x76696577

// fit brings the images of a row to the resolution: all of them by the same crop, and turned around together. What is drawn
// follows from the seed, the row and the epoch.
func (d *Dataset) fit(r *Row, row int64, epoch int) (View, error) {
	view := View{Height: r.Image.Height, Width: r.Image.Width}
	side := d.options.Resolution
	// A random crop may miss what a mask shows, and will hit it in another epoch: then the whole mask counts.
	if d.options.RandomCrop && r.Mask != nil && r.Mask.black() {
		return view, errBlackMask(d.options.MaskColumn)
	}
	var x, y float64 = 0.5, 0.5 // where the crop is on its way from one end to the other
	if rng := rand.New(rand.NewPCG(d.options.Seed^viewStream, uint64(epoch)<<40^uint64(row))); d.options.RandomCrop || d.options.RandomFlip {
		u, v, flip := rng.Float64(), rng.Float64(), rng.Float64() < 0.5
		if d.options.RandomCrop {
			x, y = u, v
		}
		view.Flipped = flip && d.options.RandomFlip
	}
	for _, part := range []struct {
		name  string
		image **RGB
	}{{d.options.ImageColumn, &r.Image}, {d.options.ConditioningImageColumn, &r.Conditioning}, {d.options.MaskColumn, &r.Mask}} {
		m := *part.image
		if m == nil {
			continue
		}
		if err := sameShape(view, m, side); err != nil {
			return view, fmt.Errorf("%s: %w", part.name, err)
		}
		fitted, top, left, err := fitAt(m, side, x, y)
		if err != nil {
			return view, fmt.Errorf("%s: %w", part.name, err)
		}
		if part.image == &r.Image {
			view.Top, view.Left = top, left
			if width, _ := FitSize(m.Width, m.Height, side); view.Flipped {
				view.Left = width - side - left
			}
		}
		if view.Flipped {
			fitted = Mirror(fitted)
		}
		*part.image = fitted
	}
	if !d.options.RandomCrop && r.Mask != nil && r.Mask.black() {
		return view, errBlackMask(d.options.MaskColumn)
	}
	return view, nil
}

// errBlackMask refuses a row that would have no weight: a batch of such rows trains nothing.
func errBlackMask(column string) error {
	return fmt.Errorf("%s: all black, so nothing of the image would count in the loss: white is what counts", column)
}

// sameShape fails if an image does not show what the row's first one does, but for a pixel of rounding.
func sameShape(of View, m *RGB, side int) error {
	width, height := FitSize(of.Width, of.Height, side)
	w, h := FitSize(m.Width, m.Height, side)
	if max(width-w, w-width, height-h, h-height) > 1 {
		return fmt.Errorf("it is %d×%d, the image %d×%d: want the same shape, since both are cropped alike", m.Width, m.Height, of.Width, of.Height)
	}
	return nil
}

// fitAt is Fit with the crop at a share of the way along each side.
func fitAt(m *RGB, side int, x, y float64) (fitted *RGB, top, left int, err error) {
	if m.Width == side && m.Height == side {
		return m, 0, 0, nil
	}
	if m.Width < 1 || m.Height < 1 || side < 1 {
		return nil, 0, 0, fmt.Errorf("fit %d×%d to %d: sides must be at least 1", m.Width, m.Height, side)
	}
	width, height := FitSize(m.Width, m.Height, side)
	if int64(width)*int64(height) > MaxPixels {
		return nil, 0, 0, fmt.Errorf("fit %d×%d to %d: the picture is too oblong, it would be %d×%d before the crop", m.Width, m.Height, side, width, height)
	}
	if m, err = Resize(m, width, height, Bilinear); err != nil {
		return nil, 0, 0, err
	}
	left, top = int(math.RoundToEven(float64(width-side)*x)), int(math.RoundToEven(float64(height-side)*y))
	return Crop(m, left, top, side, side), top, left, nil
}

// Mirror returns the image with left and right exchanged.
func Mirror(m *RGB) *RGB {
	out := NewRGB(m.Width, m.Height)
	for y := range m.Height {
		row, to := m.Pix[y*m.Width*3:(y+1)*m.Width*3], out.Pix[y*m.Width*3:]
		for x := range m.Width {
			copy(to[(m.Width-1-x)*3:], row[x*3:x*3+3])
		}
	}
	return out
}
