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
	Name:  "canny",
	Lines: true,
	Help:  "Edges in white on black, as OpenCV's Canny finds them.",
	Parameters: []Parameter{
		{
			Name: "low", Default: fixed(CannyLow), Most: mostGradient, Help: "Gradients above it continue an edge.",
		},
		{
			Name: "high", Default: fixed(CannyHigh), Most: mostGradient, Help: "Gradients above it begin an edge.",
		},
		{
			Name: "blur", Default: fixed(0), Most: 20,
			Help: "Standard deviation in pixels of a blur before, which leaves fewer edges; 0 is none.",
		},
		{
			Name: "source", Words: []string{"rgb", "gray"}, Most: 1,
			Help: "Gradients of the channel where they are largest (rgb), or of the brightness (gray).",
		},
		{
			Name: "norm", Words: []string{"l1", "l2"}, Most: 1,
			Help: "A gradient is the sum of absolute values (l1), or the root of the sum of squares (l2).",
		},
	},
	relation: lowBelowHigh,
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		pix, channels := m.Pix, 3
		if c.get("source") == 1 {
			pix, channels = luminanceOf(m).pix, 1
		}
		if sigma := c.get("blur"); sigma > 0 {
			pix = blur(pix, m.Width, m.Height, channels, sigma)
		}
		return canny(pix, m.Width, m.Height, channels, c.get("low"), c.get("high"), c.get("norm") == 1).rgb()
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
	return canny(m.Pix, m.Width, m.Height, 3, low, high, l2).rgb()
}

// What a pixel is: only those of the weak ones that touch an edge become edges.
const (
	cannyWeak = 1
	cannyEdge = 255
)

// canny marks the edges of an image of interleaved channels.
func canny(pix []uint8, width, height, channels int, low, high float64, l2 bool) plane {
	g := newGradients(pix, width, height, channels, l2)
	lowest, highest := cannyThreshold(low, l2), cannyThreshold(high, l2)
	// One pixel wider on every side, so that every pixel has neighbours.
	stride := width + 2
	states := make([]uint8, stride*(height+2))
	var open []int // edges whose neighbours have not been looked at
	above, here, below := make([]int32, stride), make([]int32, stride), make([]int32, stride)
	g.row(here, 0)
	for y := range height {
		if y+1 < height {
			g.row(below, y+1)
		} else {
			clear(below)
		}
		row := (y+1)*stride + 1
		for x, magnitude := range here[1 : width+1] {
			if magnitude <= lowest || !g.peak(x, y, above[x:x+3], here[x:x+3], below[x:x+3]) {
				continue
			}
			states[row+x] = cannyWeak
			if magnitude > highest {
				states[row+x] = cannyEdge
				open = append(open, row+x)
			}
		}
		above, here, below = here, below, above
	}
	// Edges grow along weak pixels.
	for len(open) > 0 {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		for _, k := range [8]int{i - stride - 1, i - stride, i - stride + 1, i - 1, i + 1, i + stride - 1, i + stride,
			i + stride + 1} {
			if states[k] == cannyWeak {
				states[k] = cannyEdge
				open = append(open, k)
			}
		}
	}
	out := newPlane(width, height)
	for y := range height {
		to := out.pix[y*width : (y+1)*width]
		for x, state := range states[(y+1)*stride+1:][:width] {
			if state == cannyEdge {
				to[x] = cannyEdge
			}
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

// gradients computes Sobel's derivatives of an image of interleaved channels, whose border is repeated.
type gradients struct {
	pix                     []uint8
	width, height, channels int
	l2                      bool
	smooth, slope           []int32 // a row smoothed and derived along its columns, with a pixel more on either side
	sizes                   []int32 // of a row's gradients in each channel
}

func newGradients(pix []uint8, width, height, channels int, l2 bool) *gradients {
	padded := channels * (width + 2)
	return &gradients{
		pix: pix, width: width, height: height, channels: channels, l2: l2,
		smooth: make([]int32, padded), slope: make([]int32, padded), sizes: make([]int32, channels*width),
	}
}

// rows are the rows of pixels above, at and below row y.
func (g *gradients) rows(y int) (above, here, below []uint8) {
	n := g.width * g.channels
	return g.pix[max(y-1, 0)*n:][:n], g.pix[y*n:][:n], g.pix[min(y+1, g.height-1)*n:][:n]
}

// row writes the magnitudes of a row's gradients, in the channel where they are largest, between two zeros.
func (g *gradients) row(to []int32, y int) {
	above, here, below := g.rows(y)
	n, c := len(here), g.channels
	smooth, slope := g.smooth[c:][:n], g.slope[c:][:n]
	for i, v := range here {
		a, b := int32(above[i]), int32(below[i])
		smooth[i], slope[i] = a+2*int32(v)+b, b-a
	}
	for i := range c {
		g.smooth[i], g.slope[i] = smooth[i], slope[i]
		g.smooth[c+n+i], g.slope[c+n+i] = smooth[n-c+i], slope[n-c+i]
	}
	left, right := g.smooth[:n], g.smooth[2*c:][:n]
	before, after := g.slope[:n], g.slope[2*c:][:n]
	sizes := g.sizes
	if g.l2 {
		for i, s := range slope {
			gx, gy := right[i]-left[i], before[i]+2*s+after[i]
			sizes[i] = gx*gx + gy*gy
		}
	} else {
		for i, s := range slope {
			gx, gy := right[i]-left[i], before[i]+2*s+after[i]
			sizes[i] = max(gx, -gx) + max(gy, -gy)
		}
	}
	if c == 1 {
		copy(to[1:], sizes)
	} else {
		to := to[1:][:g.width]
		for x := range to {
			p := sizes[3*x : 3*x+3 : 3*x+3]
			to[x] = max(p[0], p[1], p[2])
		}
	}
}

// at is the gradient of a pixel, in the first channel where it is largest.
func (g *gradients) at(x, y int) (dx, dy int32) {
	above, here, below := g.rows(y)
	c := g.channels
	left, right := c*max(x-1, 0), c*min(x+1, g.width-1)
	best := int32(-1)
	for k := range c {
		a, b, d := int32(above[left+k]), int32(above[c*x+k]), int32(above[right+k])
		e, f := int32(here[left+k]), int32(here[right+k])
		h, i, j := int32(below[left+k]), int32(below[c*x+k]), int32(below[right+k])
		gx, gy := d+2*f+j-a-2*e-h, h+2*i+j-a-2*b-d
		size := max(gx, -gx) + max(gy, -gy)
		if g.l2 {
			size = gx*gx + gy*gy
		}
		if size > best {
			best, dx, dy = size, gx, gy
		}
	}
	return dx, dy
}

// peak says whether the gradient of a pixel is the largest across its edge, from the magnitudes of three pixels in each
// of three rows around it. The direction is one of four, separated at 22.5° and 67.5°. Of two equal neighbours along a
// row or a column the first is the peak.
func (g *gradients) peak(x, y int, above, here, below []int32) bool {
	const (
		shift = 15
		tan22 = 13573 // tan 22.5° · 2^15; tan 67.5° is 2 more
	)
	dx, dy := g.at(x, y)
	magnitude := here[1]
	ax, ay := max(dx, -dx), max(dy, -dy)<<shift
	flat := ax * tan22
	switch {
	case ay < flat:
		return magnitude > here[0] && magnitude >= here[2]
	case ay > flat+ax<<(shift+1):
		return magnitude > above[1] && magnitude >= below[1]
	case (dx < 0) != (dy < 0):
		return magnitude > above[2] && magnitude > below[0]
	}
	return magnitude > above[0] && magnitude > below[2]
}
