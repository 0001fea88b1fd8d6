package imaging

import (
	"fmt"
	"image"
	"math"
)

// Crop returns the width×height pixels from (x, y); what lies outside m is black.
func Crop(m *RGB, x, y, width, height int) *RGB {
	out := NewRGB(width, height)
	left, right := max(x, 0), min(x+width, m.Width)
	for row := max(y, 0); row < min(y+height, m.Height) && left < right; row++ {
		copy(out.Pix[((row-y)*width+left-x)*3:], m.Pix[(row*m.Width+left)*3:(row*m.Width+right)*3])
	}
	return out
}

// Fit is the preprocessing of diffusers' training scripts: the short side is resized to side by the filter (the long
// side rounded down), then the centre is cropped to side×side. An image of that size is returned unchanged.
func Fit(m *RGB, side int, filter Filter) (*RGB, error) {
	fitted, _, _, err := FitAt(m, side, filter, 0.5, 0.5)
	return fitted, err
}

// FitAt is Fit with the crop at x, from 0 at the left to 1 at the right, and y, from 0 at the top to 1 at the bottom.
// It also returns the crop's top left corner, in pixels of the resized image.
func FitAt(m *RGB, side int, filter Filter, x, y float64) (fitted *RGB, top, left int, err error) {
	if m.Width == side && m.Height == side {
		return m, 0, 0, nil
	}
	if m.Width < 1 || m.Height < 1 || side < 1 {
		return nil, 0, 0, fmt.Errorf("fit %d×%d to %d: sides must be at least 1", m.Width, m.Height, side)
	}
	width, height := FitSize(m.Width, m.Height, side)
	if int64(width)*int64(height) > MaxPixels {
		return nil, 0, 0, fmt.Errorf("fit %d×%d to %d: the picture is too oblong, it would be %d×%d before the crop",
			m.Width, m.Height, side, width, height)
	}
	left, top = int(math.RoundToEven(float64(width-side)*x)), int(math.RoundToEven(float64(height-side)*y))
	fitted, err = resizePart(m, width, height, filter, image.Rect(left, top, left+side, top+side))
	if err != nil {
		return nil, 0, 0, err
	}
	return fitted, top, left, nil
}

// FitSize is the size between Fit's two steps, as torchvision's Resize(side) computes it.
func FitSize(width, height, side int) (int, int) {
	if width <= height {
		return side, int(int64(side) * int64(height) / int64(width))
	}
	return int(int64(side) * int64(width) / int64(height)), side
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
