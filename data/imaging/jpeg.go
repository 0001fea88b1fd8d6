package imaging

// #include "vector.h"
import "C"

import (
	"fmt"
	"image"
)

// fromJPEG converts what decodeJPEG gives, of the standard decoder its planes. That one's own conversion repeats chroma
// samples, which differs from libjpeg (and so from PIL) by up to 46 levels; the upsampling here is libjpeg's triangle
// filter ("fancy upsampling") with its rounding.
func fromJPEG(m image.Image) (*RGB, error) {
	switch m := m.(type) {
	case *RGB:
		return m, nil
	case *image.YCbCr:
		return fromYCbCr(m), nil
	case *image.CMYK:
		return fromCMYK(m), nil
	case *image.Gray, *image.RGBA:
		return toRGB(m), nil
	}
	return nil, fmt.Errorf("colour form %T is not supported", m)
}

// fromYCbCr upsamples chroma by a factor of 2 as libjpeg does; where that has no filter, samples are repeated.
func fromYCbCr(m *image.YCbCr) *RGB {
	width, height := m.Rect.Dx(), m.Rect.Dy()
	out := NewRGB(width, height)
	stepX, stepY := 1, 1 // picture pixels to a sample
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		stepX = 2
	case image.YCbCrSubsampleRatio420:
		stepX, stepY = 2, 2
	case image.YCbCrSubsampleRatio440:
		stepY = 2
	case image.YCbCrSubsampleRatio411:
		stepX = 4
	case image.YCbCrSubsampleRatio410:
		stepX, stepY = 4, 2
	}
	scratch := make([]uint16, C.limner_ycc_scratch(C.long(width), C.int(stepX))/2)
	yccToRGB(m.Y, m.Cb, m.Cr, m.YStride, m.CStride, stepX, stepY, scratch, out)
	return out
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
