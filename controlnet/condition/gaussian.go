package condition

import (
	"math"

	"limner/data/imaging"
)

// mostSigma bounds the work of a blur: its kernel has 6 sigma + 1 taps.
const mostSigma = 100

var blurKind = Kind{
	Name: "blur",
	Help: "The image out of focus, as OpenCV's GaussianBlur makes it.",
	Parameters: []Parameter{
		{Name: "sigma", Default: fixed(9), Least: 0.1, Most: mostSigma, Help: "Standard deviation in pixels."},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB { return blurRGB(m, c.get("sigma")) },
}

// gaussian is half of a normalised Gaussian of size taps, from its middle outwards.
func gaussian(sigma float64, size int) []float64 {
	half := make([]float64, size/2+1)
	sum := 0.0
	for i := range half {
		half[i] = math.Exp(-float64(i*i) / (2 * sigma * sigma))
		sum += half[i]
		if i > 0 {
			sum += half[i]
		}
	}
	for i := range half {
		half[i] /= sum
	}
	return half
}

// fixedGaussian is the kernel of OpenCV's blur of 8-bit images, half of it: weights of 8 bits whose sum is 256. The
// error of rounding each, from the outside inwards, goes into the next.
func fixedGaussian(sigma float64) []uint32 {
	half := gaussian(sigma, int(math.RoundToEven(6*sigma+1))|1)
	fixed := make([]uint32, len(half))
	rest, left := 0.0, uint32(256)
	for i := len(half) - 1; i > 0; i-- {
		v := 256*half[i] + rest
		fixed[i] = uint32(math.RoundToEven(v))
		rest = v - float64(fixed[i])
		left -= 2 * fixed[i]
	}
	fixed[0] = left
	for len(fixed) > 1 && fixed[len(fixed)-1] == 0 {
		fixed = fixed[:len(fixed)-1]
	}
	return fixed
}

// blurRGB blurs an image as OpenCV's GaussianBlur does with 8-bit images, to the bit.
func blurRGB(m *imaging.RGB, sigma float64) *imaging.RGB {
	return &imaging.RGB{Width: m.Width, Height: m.Height, Pix: blur(m.Pix, m.Width, m.Height, 3, sigma)}
}

// blur blurs interleaved channels: rows into 8.8 fixed point, then columns.
func blur(pix []uint8, width, height, channels int, sigma float64) []uint8 {
	kernel := fixedGaussian(sigma)
	stride, reach := width*channels, len(kernel)-1
	rows := make([]uint16, len(pix))
	padded := make([]uint8, stride+2*reach*channels)
	for y := range height {
		pad(padded, pix[y*stride:(y+1)*stride], width, channels, reach)
		to := rows[y*stride : (y+1)*stride]
		for i, v := range padded[reach*channels:][:stride] {
			to[i] = uint16(uint32(v) * kernel[0])
		}
		for k := 1; k <= reach; k++ {
			weight := uint16(kernel[k])
			left, right := padded[(reach-k)*channels:][:stride], padded[(reach+k)*channels:][:stride]
			for i := range to {
				to[i] += weight * (uint16(left[i]) + uint16(right[i]))
			}
		}
	}
	out := make([]uint8, len(pix))
	sums := make([]uint32, stride)
	for y := range height {
		for i, v := range rows[y*stride:][:stride] {
			sums[i] = uint32(v)*kernel[0] + 1<<15
		}
		for k := 1; k <= reach; k++ {
			above := rows[reflect101(y-k, height)*stride:][:stride]
			below := rows[reflect101(y+k, height)*stride:][:stride]
			for i := range sums {
				sums[i] += kernel[k] * (uint32(above[i]) + uint32(below[i]))
			}
		}
		to := out[y*stride : (y+1)*stride]
		for i, v := range sums {
			to[i] = uint8(v >> 16)
		}
	}
	return out
}

// pad puts a row of pixels into the middle of a padded one, with its reflection for reach pixels on either side.
func pad[T any](padded, row []T, width, channels, reach int) {
	copy(padded[reach*channels:], row)
	for x := 1; x <= reach; x++ {
		left, right := reflect101(-x, width), reflect101(width-1+x, width)
		copy(padded[(reach-x)*channels:][:channels], row[left*channels:])
		copy(padded[(reach+width-1+x)*channels:][:channels], row[right*channels:])
	}
}

// blurFloats blurs an image as OpenCV's GaussianBlur does with images of float32, but for the order of its sums.
func blurFloats(m *imaging.RGB, sigma float64) []float32 {
	half := gaussian(sigma, int(math.RoundToEven(8*sigma+1))|1)
	kernel := make([]float32, len(half))
	for i, v := range half {
		kernel[i] = float32(v)
	}
	stride, reach := m.Width*3, len(kernel)-1
	rows := make([]float32, len(m.Pix))
	row, padded := make([]float32, stride), make([]float32, stride+2*reach*3)
	for y := range m.Height {
		for i, v := range m.Pix[y*stride:][:stride] {
			row[i] = float32(v)
		}
		pad(padded, row, m.Width, 3, reach)
		to := rows[y*stride : (y+1)*stride]
		for i, v := range row {
			to[i] = v * kernel[0]
		}
		for k := 1; k <= reach; k++ {
			addTaps(to, padded[(reach-k)*3:], padded[(reach+k)*3:], kernel[k])
		}
	}
	out := make([]float32, len(m.Pix))
	for y := range m.Height {
		to := out[y*stride : (y+1)*stride]
		for i, v := range rows[y*stride:][:stride] {
			to[i] = v * kernel[0]
		}
		for k := 1; k <= reach; k++ {
			above, below := reflect101(y-k, m.Height), reflect101(y+k, m.Height)
			addTaps(to, rows[above*stride:], rows[below*stride:], kernel[k])
		}
	}
	return out
}

// addTaps adds weight·(a + b) to sums.
func addTaps(sums, a, b []float32, weight float32) {
	a, b = a[:len(sums)], b[:len(sums)]
	for i := range sums {
		sums[i] += weight * (a[i] + b[i])
	}
}
