package imaging

import (
	"fmt"
	"image"
	"math"
)

// Filter is a resampling kernel under PIL's name for it.
type Filter string

// The filters of PIL's Image.resize.
const (
	Nearest  Filter = "nearest"
	Box      Filter = "box"
	Bilinear Filter = "bilinear"
	Hamming  Filter = "hamming"
	Bicubic  Filter = "bicubic"
	Lanczos  Filter = "lanczos"
)

// Check fails if there is no filter of that name.
func (f Filter) Check() error {
	switch f {
	case Nearest, Box, Bilinear, Hamming, Bicubic, Lanczos:
		return nil
	}
	return fmt.Errorf("resampling filter %q: want nearest, box, bilinear, hamming, bicubic or lanczos", f)
}

// kernel returns the filter's weight function and the distance at which it becomes zero.
func (f Filter) kernel() (weight func(x float64) float64, support float64, err error) {
	switch f {
	case Box:
		return func(x float64) float64 {
			if x > -0.5 && x <= 0.5 {
				return 1
			}
			return 0
		}, 0.5, nil
	case Bilinear:
		return func(x float64) float64 { return max(0, 1-math.Abs(x)) }, 1, nil
	case Hamming:
		return func(x float64) float64 {
			x = math.Abs(x)
			switch {
			case x == 0:
				return 1
			case x >= 1:
				return 0
			}
			x *= math.Pi
			return math.Sin(x) / x * (0.54 + 0.46*math.Cos(x))
		}, 1, nil
	case Bicubic:
		return func(x float64) float64 {
			const a = -0.5
			x = math.Abs(x)
			switch {
			case x < 1:
				return ((a+2)*x-(a+3))*x*x + 1
			case x < 2:
				return (((x-5)*x+8)*x - 4) * a
			}
			return 0
		}, 2, nil
	case Lanczos:
		sinc := func(x float64) float64 {
			if x == 0 {
				return 1
			}
			x *= math.Pi
			return math.Sin(x) / x
		}
		return func(x float64) float64 {
			if x >= -3 && x < 3 {
				return sinc(x) * sinc(x/3)
			}
			return 0
		}, 3, nil
	}
	return nil, 0, f.Check()
}

// Resize scales the image to width×height as the Image.resize of Pillow up to 12 does, to the same bytes: the kernel is
// widened when shrinking, weights are rounded to 22 bits, and rows are always resized before columns, with 8 bits in
// between.
func Resize(m *RGB, width, height int, filter Filter) (*RGB, error) {
	return resizePart(m, width, height, filter, image.Rect(0, 0, width, height))
}

// resizePart is a part of what Resize gives; nothing else of it is computed.
func resizePart(m *RGB, width, height int, filter Filter, part image.Rectangle) (*RGB, error) {
	if width < 1 || height < 1 || m.Width < 1 || m.Height < 1 {
		return nil, fmt.Errorf("resize %d×%d to %d×%d: sides must be at least 1", m.Width, m.Height, width, height)
	}
	if filter == Nearest {
		return resizeNearest(m, width, height, part), nil
	}
	weight, support, err := filter.kernel()
	if err != nil {
		return nil, err
	}
	top, bottom := part.Min.Y, part.Max.Y // the rows of m that are needed
	var columns pass
	if height != m.Height {
		columns = newPass(m.Height, height, part.Min.Y, part.Max.Y, weight, support)
		top, bottom = columns.begin, columns.end
	}
	out := m
	if width != m.Width {
		out = newPass(m.Width, width, part.Min.X, part.Max.X, weight, support).rows(m, top, bottom)
	} else if part.Dx() < width || bottom-top < m.Height {
		out = Crop(m, part.Min.X, top, part.Dx(), bottom-top)
	}
	if height != m.Height {
		out = columns.columns(out)
	}
	return out, nil
}

// resizeNearest takes single samples.
func resizeNearest(m *RGB, width, height int, part image.Rectangle) *RGB {
	out := NewRGB(part.Dx(), part.Dy())
	columns := nearestOf(m.Width, width)[part.Min.X:part.Max.X]
	for y, from := range nearestOf(m.Height, height)[part.Min.Y:part.Max.Y] {
		for x, at := range columns {
			copy(out.Pix[(y*out.Width+x)*3:][:3], m.Pix[(from*m.Width+at)*3:])
		}
	}
	return out
}

// nearestOf lists the input sample of each output sample. As in PIL, the coordinate is a running sum of float64, whose
// rounding moves single samples away from (i + 0.5)·scale.
func nearestOf(in, out int) []int {
	scale := float64(in) / float64(out)
	list := make([]int, out)
	at := scale / 2
	for i := range list {
		list[i] = min(int(at), in-1)
		at += scale
	}
	return list
}

func clip8(v int32) uint8 { return uint8(min(max(v, 0), 255)) }
