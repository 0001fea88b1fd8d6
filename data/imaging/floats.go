package imaging

// #include "vector.h"
import "C"

import (
	"slices"
	"unsafe"
)

// AppendPixels appends the image to dst as floats in [-1, 1], rounded as ToTensor and
// Normalize(0.5, 0.5) do: the range of training images.
func AppendPixels(dst []float32, m *RGB) []float32 {
	dst, to := extend(dst, len(m.Pix))
	C.limner_signed_floats(bytesOf(m.Pix), to, C.long(len(m.Pix)))
	return dst
}

// AppendCondition appends the image to dst as floats in [0, 1]: the range of conditioning images.
func AppendCondition(dst []float32, m *RGB) []float32 {
	dst, to := extend(dst, len(m.Pix))
	C.limner_floats(bytesOf(m.Pix), to, C.long(len(m.Pix)))
	return dst
}

// extend makes dst longer by n floats, which are at to.
func extend(dst []float32, n int) (longer []float32, to *C.float) {
	longer = slices.Grow(dst, n)[:len(dst)+n]
	return longer, (*C.float)(unsafe.SliceData(longer[len(dst):]))
}

// AppendGray appends the image to dst as one float a pixel in [0, 1], of the gray that PIL's convert("L") gives: the
// range of masks.
func AppendGray(dst []float32, m *RGB) []float32 {
	for i := 0; i < len(m.Pix); i += 3 {
		dst = append(dst, float32(gray(m.Pix[i:]))/255)
	}
	return dst
}

// gray is the gray of a pixel, 0 to 255.
func gray(p []uint8) int { return (19595*int(p[0]) + 38470*int(p[1]) + 7471*int(p[2]) + 1<<15) >> 16 }

// Black says whether every pixel's gray is 0.
func (m *RGB) Black() bool {
	for i := 0; i < len(m.Pix); i += 3 {
		if gray(m.Pix[i:]) > 0 {
			return false
		}
	}
	return true
}
