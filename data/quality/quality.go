// Package quality measures pictures: how sharp and how blank they are, whether two are the same but for their encoding,
// and whether the edges of two lie in the same places.
package quality

import (
	"slices"

	"limner/data/imaging"
)

// sharpnessSide is the shorter side, in pixels, to which larger pictures are reduced before their sharpness is
// measured: else a large soft picture would count as blurred that is sharp at the size at which it is trained on.
const sharpnessSide = 512

// Sharpness is the variance of the Laplacian of a picture's luma, on the scale of 8-bit values: below about 100 for a
// blurred photograph, a thousand for a sharp one, 0 for one colour. Drawings with large plain areas have little of it,
// too, however sharp they are. A picture whose shorter side is a multiple of 512
// pixels or more is averaged to about 512 first.
func Sharpness(m *imaging.RGB) float64 {
	luma, width, height := lumaOf(m, max(1, min(m.Width, m.Height)/sharpnessSide))
	if width < 3 || height < 3 {
		return 0
	}
	var sum, squares float64
	for y := 1; y < height-1; y++ {
		above, here, below := luma[(y-1)*width:y*width], luma[y*width:(y+1)*width], luma[(y+1)*width:(y+2)*width]
		for x := 1; x < width-1; x++ {
			v := above[x] + below[x] + here[x-1] + here[x+1] - 4*here[x]
			sum += float64(v)
			squares += float64(v) * float64(v)
		}
	}
	n := float64((width - 2) * (height - 2))
	mean := sum / n
	return max(0, squares/n-mean*mean)
}

// lumaOf is the luma of a picture by ITU-R BT.601, 0 to 255, averaged over squares of k×k pixels.
func lumaOf(m *imaging.RGB, k int) (luma []float32, width, height int) {
	width, height = m.Width/k, m.Height/k
	luma = make([]float32, width*height)
	scale := 1 / float32(1000*k*k)
	sums := make([]int32, width)
	for y := range height {
		clear(sums)
		for j := range k {
			row := m.Pix[(y*k+j)*m.Width*3:]
			for x := range sums {
				for p := row[x*k*3 : (x+1)*k*3]; len(p) > 0; p = p[3:] {
					sums[x] += 299*int32(p[0]) + 587*int32(p[1]) + 114*int32(p[2])
				}
			}
		}
		for x, s := range sums {
			luma[y*width+x] = float32(s) * scale
		}
	}
	return luma, width, height
}

// variationLevels is by how much a channel must differ from the background to count: more than noise and JPEG do.
const variationLevels = 8

// Variation is the share of the pixels that differ from the picture's background by more than 8 of 255 levels in a
// channel: 0 for one colour, noise aside, 0.02 for a thin outline, about 1 for a photograph. The background is the
// median of each channel.
func Variation(m *imaging.RGB) float64 {
	pixels := m.Width * m.Height
	if pixels == 0 {
		return 0
	}
	var counts [3][256]int
	for p := m.Pix; len(p) >= 3; p = p[3:] {
		counts[0][p[0]]++
		counts[1][p[1]]++
		counts[2][p[2]]++
	}
	var low, high [3]uint8
	for c := range counts {
		below, median := 0, 0
		for ; below+counts[c][median] <= pixels/2; median++ {
			below += counts[c][median]
		}
		low[c], high[c] = uint8(max(0, median-variationLevels)), uint8(min(255, median+variationLevels))
	}
	different := 0
	for p := m.Pix; len(p) >= 3; p = p[3:] {
		if p[0] < low[0] || p[0] > high[0] || p[1] < low[1] || p[1] > high[1] || p[2] < low[2] || p[2] > high[2] {
			different++
		}
	}
	return float64(different) / float64(pixels)
}

// Variations below which a picture shows one colour, or next to nothing.
const (
	BlankVariation     = 1e-4 // one pixel in ten thousand
	NearBlankVariation = 2e-3 // one in five hundred
)

// Blank says whether a picture of this variation shows one colour.
func Blank(variation float64) bool { return variation < BlankVariation }

// NearBlank says whether a picture of this variation shows next to nothing.
func NearBlank(variation float64) bool { return variation < NearBlankVariation }

// Median is the middle of some numbers, which it sorts, or the mean of the two in the middle; 0 without any.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
