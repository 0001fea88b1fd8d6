package imaging

// #include "vector.h"
//
// static void ycc(const uint8_t *luma, const uint8_t *blue, const uint8_t *red, long luma_stride, long chroma_stride,
//     long width, long height, int step_x, int step_y, uint16_t *scratch, uint8_t *to) {
//     planes p = {luma, blue, red, luma_stride, chroma_stride, width, height, step_x, step_y};
//     limner_ycc(&p, scratch, to);
// }
import "C"

import (
	"fmt"
	"image"
	"unsafe"
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
	C.ycc(bytesOf(m.Y), bytesOf(m.Cb), bytesOf(m.Cr), C.long(m.YStride), C.long(m.CStride),
		C.long(width), C.long(height), C.int(stepX), C.int(stepY),
		(*C.uint16_t)(unsafe.SliceData(scratch)), bytesOf(out.Pix))
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
