package sample

import (
	"math"
	"math/rand/v2"
)

// Purposes tell the streams of random numbers of one seed apart. The numbers are part of what makes an image
// repeatable: never change them. From purposeSteps on there is one for each draw of a scheduler.
const (
	purposeLatents         = 1
	purposePosterior       = 2 // of the image to begin from
	purposeMaskedPosterior = 3 // of that image without what is painted anew
	purposeSteps           = 1 << 32
)

// appendNormals appends n unit normals: the first n values of NormFloat64 of math/rand/v2's PCG(seed, purpose), as
// float32. They fill latents [height, width, channels] in that order, and depend on nothing else: neither on other
// images of the batch nor on the devices.
func appendNormals(dst []float32, seed, purpose uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, purpose))
	for range n {
		dst = append(dst, float32(rng.NormFloat64()))
	}
	return dst
}

// finite says whether x holds neither NaN nor infinity.
func finite(x []float32) bool {
	for _, v := range x {
		if v := float64(v); math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}
