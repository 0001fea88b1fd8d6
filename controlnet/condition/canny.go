package condition

import (
	"fmt"

	"limner/data/imaging"
)

// CannyLow and CannyHigh are the thresholds that diffusers' ControlNet examples use.
const (
	CannyLow  = 100
	CannyHigh = 200
)

// mostGradient is the largest sum of a gradient's absolute values: 4·255 along each axis.
const mostGradient = 2040

var cannyKind = Kind{
	Name: "canny",
	Help: "Edges in white on black, as OpenCV's Canny finds them.",
	Parameters: []Parameter{
		{
			Name: "low", Default: fixed(CannyLow), Most: mostGradient, Help: "Gradients above it continue an edge.",
		},
		{
			Name: "high", Default: fixed(CannyHigh), Most: mostGradient, Help: "Gradients above it begin an edge.",
		},
		{
			Name: "norm", Words: []string{"l1", "l2"}, Most: 1,
			Help: "A gradient is the sum of absolute values (l1), or the root of the sum of squares (l2).",
		},
	},
	relation: lowBelowHigh,
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		return Canny(m, c.get("low"), c.get("high"), c.get("norm") == 1)
	},
}

// lowBelowHigh fails if a low threshold could be drawn above a high one.
func lowBelowHigh(s Spec) error {
	low, high := s.get("low"), s.get("high")
	if low.High > high.Low {
		return fmt.Errorf("low is up to %g and high down to %g: low must not be above high", low.High, high.Low)
	}
	return nil
}

// Canny marks the edges of an image in white: OpenCV's Canny with an aperture of 3, to the bit. Each pixel's gradient
// is that of the channel in which it is largest. Gradients above high start an edge, those above low continue one. With
// l2 a gradient's magnitude is the root of the sum of squares, otherwise the sum of absolute values.
func Canny(m *imaging.RGB, low, high float64, l2 bool) *imaging.RGB {
	w, h := m.Width, m.Height
	dx, dy, magnitude := cannyGradients(m, l2)
	lowest, highest := cannyThreshold(low, l2), cannyThreshold(high, l2)
	at := func(x, y int) int32 { // outside there are no gradients
		if x < 0 || y < 0 || x >= w || y >= h {
			return 0
		}
		return magnitude[y*w+x]
	}
	weak, edge := make([]bool, w*h), make([]bool, w*h)
	var open []int
	for y := range h {
		for x := range w {
			i := y*w + x
			if magnitude[i] <= lowest || !cannyPeak(at, x, y, int32(dx[i]), int32(dy[i])) {
				continue
			}
			weak[i] = true
			if magnitude[i] > highest {
				edge[i] = true
				open = append(open, i)
			}
		}
	}
	// Edges grow along weak pixels.
	for len(open) > 0 {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		for y := max(i/w-1, 0); y <= min(i/w+1, h-1); y++ {
			for x := max(i%w-1, 0); x <= min(i%w+1, w-1); x++ {
				if k := y*w + x; weak[k] && !edge[k] {
					edge[k] = true
					open = append(open, k)
				}
			}
		}
	}
	out := imaging.NewRGB(w, h)
	for i, is := range edge {
		if is {
			out.Pix[3*i], out.Pix[3*i+1], out.Pix[3*i+2] = 255, 255, 255
		}
	}
	return out
}

// cannyThreshold is a threshold as OpenCV compares it.
func cannyThreshold(t float64, l2 bool) int32 {
	if l2 {
		t = min(32767, t)
		t *= t
	}
	return int32(t) // rounded down, since it is not negative
}

// cannyGradients are Sobel's derivatives and their magnitude, of the channel in which that is largest. The border is
// repeated.
func cannyGradients(m *imaging.RGB, l2 bool) (dx, dy []int16, magnitude []int32) {
	w, h := m.Width, m.Height
	dx, dy, magnitude = make([]int16, w*h), make([]int16, w*h), make([]int32, w*h)
	for y := range h {
		above, here, below := m.Pix[max(y-1, 0)*w*3:], m.Pix[y*w*3:], m.Pix[min(y+1, h-1)*w*3:]
		for x := range w {
			left, right := 3*max(x-1, 0), 3*min(x+1, w-1)
			best := int32(-1)
			for c := range 3 {
				a, b, d := int32(above[left+c]), int32(above[3*x+c]), int32(above[right+c])
				e, f := int32(here[left+c]), int32(here[right+c])
				g, i, j := int32(below[left+c]), int32(below[3*x+c]), int32(below[right+c])
				gx, gy := d+2*f+j-a-2*e-g, g+2*i+j-a-2*b-d
				size := max(gx, -gx) + max(gy, -gy)
				if l2 {
					size = gx*gx + gy*gy
				}
				if size > best {
					best = size
					dx[y*w+x], dy[y*w+x] = int16(gx), int16(gy)
				}
			}
			magnitude[y*w+x] = best
		}
	}
	return dx, dy, magnitude
}

// cannyPeak says whether the gradient (dx, dy) of a pixel is the largest across its edge. The direction is one of four,
// separated at 22.5° and 67.5°. Of two equal neighbours along a row or a column the first is the peak.
func cannyPeak(at func(x, y int) int32, x, y int, dx, dy int32) bool {
	const (
		shift = 15
		tan22 = 13573 // tan 22.5° · 2^15; tan 67.5° is 2 more
	)
	here := at(x, y)
	ax, ay := max(dx, -dx), max(dy, -dy)<<shift
	flat := ax * tan22
	switch {
	case ay < flat:
		return here > at(x-1, y) && here >= at(x+1, y)
	case ay > flat+ax<<(shift+1):
		return here > at(x, y-1) && here >= at(x, y+1)
	}
	s := 1
	if (dx < 0) != (dy < 0) {
		s = -1
	}
	return here > at(x-s, y-1) && here > at(x+s, y+1)
}
