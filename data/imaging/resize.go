package imaging

import (
	"fmt"
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
	if width < 1 || height < 1 || m.Width < 1 || m.Height < 1 {
		return nil, fmt.Errorf("resize %d×%d to %d×%d: sides must be at least 1", m.Width, m.Height, width, height)
	}
	if filter == Nearest {
		return resizeNearest(m, width, height), nil
	}
	weight, support, err := filter.kernel()
	if err != nil {
		return nil, err
	}
	if width != m.Width {
		m = resizeRows(m, taps(m.Width, width, weight, support))
	}
	if height != m.Height {
		m = resizeColumns(m, taps(m.Height, height, weight, support))
	}
	return m, nil
}

// weightBits is the fixed point of the weights: 32 less 8 bits of a sample and 2 of headroom.
const weightBits = 32 - 8 - 2

// tap is the window of inputs of one output sample, with their weights.
type tap struct {
	first   int
	weights []int32
}

func taps(in, out int, weight func(float64) float64, support float64) []tap {
	scale := float64(in) / float64(out)
	widen := max(scale, 1)
	support *= widen
	list := make([]tap, out)
	for i := range list {
		centre := (float64(i) + 0.5) * scale
		first := max(int(centre-support+0.5), 0)
		last := min(int(centre+support+0.5), in)
		w := make([]float64, last-first)
		sum := 0.0
		for j := range w {
			w[j] = weight((float64(j+first) - centre + 0.5) * (1 / widen))
			sum += w[j]
		}
		list[i] = tap{first: first, weights: make([]int32, len(w))}
		for j, v := range w {
			if sum != 0 {
				v /= sum
			}
			list[i].weights[j] = int32(v*(1<<weightBits) + math.Copysign(0.5, v))
		}
	}
	return list
}

func resizeRows(m *RGB, list []tap) *RGB {
	out := NewRGB(len(list), m.Height)
	for y := range m.Height {
		row := m.Pix[y*m.Width*3 : (y+1)*m.Width*3]
		to := out.Pix[y*out.Width*3:]
		for x, t := range list {
			r, g, b := int32(1<<(weightBits-1)), int32(1<<(weightBits-1)), int32(1<<(weightBits-1))
			p := row[t.first*3:]
			for j, w := range t.weights {
				r += int32(p[j*3]) * w
				g += int32(p[j*3+1]) * w
				b += int32(p[j*3+2]) * w
			}
			to[x*3], to[x*3+1], to[x*3+2] = clip8(r>>weightBits), clip8(g>>weightBits), clip8(b>>weightBits)
		}
	}
	return out
}

func resizeColumns(m *RGB, list []tap) *RGB {
	out := NewRGB(m.Width, len(list))
	stride := m.Width * 3
	sums := make([]int32, stride)
	for y, t := range list {
		for i := range sums {
			sums[i] = 1 << (weightBits - 1)
		}
		for j, w := range t.weights {
			row := m.Pix[(t.first+j)*stride : (t.first+j+1)*stride]
			for i, v := range row {
				sums[i] += int32(v) * w
			}
		}
		to := out.Pix[y*stride : (y+1)*stride]
		for i, s := range sums {
			to[i] = clip8(s >> weightBits)
		}
	}
	return out
}

func resizeNearest(m *RGB, width, height int) *RGB {
	out := NewRGB(width, height)
	columns := nearestOf(m.Width, width)
	for y, from := range nearestOf(m.Height, height) {
		for x, at := range columns {
			copy(out.Pix[(y*width+x)*3:][:3], m.Pix[(from*m.Width+at)*3:])
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
