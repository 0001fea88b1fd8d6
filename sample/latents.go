package sample

import (
	"math"
	"math/rand/v2"
)

// Purposes tell the streams of random numbers of one seed apart.
const purposeLatents = 1

// AppendNoise appends n unit normals, the initial latents of the image with the given seed: the first n values of
// NormFloat64 of math/rand/v2's PCG(seed, 1), as float32. They fill the latents [height, width, channels] in that order,
// and depend on nothing else: neither on other images of the batch nor on the devices.
func AppendNoise(dst []float32, seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, purposeLatents))
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
