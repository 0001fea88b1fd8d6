package nn

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// InitValues draws the starting value of every parameter. Each depends on the seed and its own key alone, so that
// adding a parameter changes no other.
func InitValues(tree Tree, seed uint64) Values {
	values := make(Values, len(tree))
	for _, spec := range tree {
		data := make([]float32, spec.Size())
		key := fnv.New64a()
		key.Write([]byte(spec.Key))
		rng := rand.New(rand.NewPCG(seed, key.Sum64()))
		switch spec.Init {
		case InitOnes:
			for i := range data {
				data[i] = 1
			}
		case InitUniform:
			limit := math.Sqrt(3 / float64(spec.FanIn))
			for i := range data {
				data[i] = float32((2*rng.Float64() - 1) * limit)
			}
		case InitNormal:
			for i := range data {
				data[i] = float32(0.02 * rng.NormFloat64())
			}
		}
		values[spec.Key] = data
	}
	return values
}
