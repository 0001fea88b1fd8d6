package imaging

import (
	"fmt"
	"image"
)

// fromJPEG converts the planes of the standard decoder. Its own conversion repeats chroma samples, which differs from
// libjpeg (and so from PIL) by up to 46 levels; the upsampling here is libjpeg's triangle filter ("fancy upsampling")
// with its rounding.
func fromJPEG(m image.Image) (*RGB, error) {
	switch m := m.(type) {
	case *image.YCbCr:
		return fromYCbCr(m), nil
	case *image.CMYK:
		return fromCMYK(m), nil
	case *image.Gray, *image.RGBA:
		return toRGB(m), nil
	}
	return nil, fmt.Errorf("colour form %T is not supported", m)
}

func fromYCbCr(m *image.YCbCr) *RGB {
	width, height := m.Rect.Dx(), m.Rect.Dy()
	out := NewRGB(width, height)
	cb, cr := newChroma(m, m.Cb), newChroma(m, m.Cr)
	for y := range height {
		luma := m.Y[y*m.YStride:]
		blue, red := cb.row(y), cr.row(y)
		to := out.Pix[y*width*3:]
		for x := range width {
			to[x*3], to[x*3+1], to[x*3+2] = ycc(int32(luma[x]), int32(blue[x])-128, int32(red[x])-128)
		}
	}
	return out
}

// ycc is libjpeg's conversion in 16 bits of fixed point.
func ycc(y, cb, cr int32) (r, g, b uint8) {
	const half = 1 << 15
	r = clip8(y + (91881*cr+half)>>16)           // 1.40200
	g = clip8(y + (-22554*cb-46802*cr+half)>>16) // 0.34414, 0.71414
	b = clip8(y + (116130*cb+half)>>16)          // 1.77200
	return r, g, b
}

// chroma upsamples one plane row by row.
type chroma struct {
	pix           []uint8
	stride        int
	width, height int // of the plane
	stepX, stepY  int // picture pixels to a sample
	sums          []int32
	out           []uint8
}

func newChroma(m *image.YCbCr, pix []uint8) *chroma {
	c := &chroma{pix: pix, stride: m.CStride, stepX: 1, stepY: 1}
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		c.stepX = 2
	case image.YCbCrSubsampleRatio420:
		c.stepX, c.stepY = 2, 2
	case image.YCbCrSubsampleRatio440:
		c.stepY = 2
	case image.YCbCrSubsampleRatio411:
		c.stepX = 4
	case image.YCbCrSubsampleRatio410:
		c.stepX, c.stepY = 4, 2
	}
	width, height := m.Rect.Dx(), m.Rect.Dy()
	c.width, c.height = (width+c.stepX-1)/c.stepX, (height+c.stepY-1)/c.stepY
	c.sums = make([]int32, c.width)
	c.out = make([]uint8, c.width*c.stepX)
	return c
}

// row returns the samples of picture row y; they are overwritten by the next call.
func (c *chroma) row(y int) []uint8 {
	near := c.line(y / c.stepY)
	if c.stepX == 1 && c.stepY == 1 {
		return near
	}
	// The other row that contributes to this one: above for even rows, below for odd ones.
	far := c.line(y/c.stepY + 2*(y%2) - 1)
	switch {
	case c.stepX == 1: // libjpeg's h1v2: ¾ near + ¼ far
		bias := int32(1 + y%2)
		for x := range c.out {
			c.out[x] = uint8((3*int32(near[x]) + int32(far[x]) + bias) >> 2)
		}
	case c.stepX == 2 && c.width <= 2 || c.stepX > 2: // too narrow for the filter, or libjpeg has none
		for x := range c.out {
			c.out[x] = near[x/c.stepX]
		}
	case c.stepY == 1: // h2v1
		for x, v := range near {
			c.sums[x] = int32(v)
		}
		c.triangle(1, 2, 2)
	default: // h2v2, without rounding between the two directions
		for x := range c.sums {
			c.sums[x] = 3*int32(near[x]) + int32(far[x])
		}
		c.triangle(8, 7, 4)
	}
	return c.out
}

// triangle doubles sums in width: each output is ¾ of its own sample and ¼ of the one beside it,
// and the outer two are their own sample alone. The biases alternate so that rounding does not drift.
func (c *chroma) triangle(biasLeft, biasRight int32, shift uint) {
	last := len(c.sums) - 1
	for x, v := range c.sums {
		left, right := v, v
		if x > 0 {
			left = c.sums[x-1]
		}
		if x < last {
			right = c.sums[x+1]
		}
		c.out[2*x] = uint8((3*v + left + biasLeft) >> shift)
		c.out[2*x+1] = uint8((3*v + right + biasRight) >> shift)
	}
}

func (c *chroma) line(y int) []uint8 {
	y = min(max(y, 0), c.height-1)
	return c.pix[y*c.stride:][:c.width]
}

// fromCMYK is PIL's conversion, which multiplies each ink with black.
func fromCMYK(m *image.CMYK) *RGB {
	out := NewRGB(m.Rect.Dx(), m.Rect.Dy())
	for y := range out.Height {
		for x := range out.Width {
			p := m.Pix[y*m.Stride+x*4:]
			light := 255 - int32(p[3])
			for k := range 3 {
				product := int32(p[k])*light + 128
				out.Pix[(y*out.Width+x)*3+k] = clip8(light - (product>>8+product)>>8)
			}
		}
	}
	return out
}
