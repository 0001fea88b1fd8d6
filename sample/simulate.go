package sample

import (
	"math"
	"slices"
)

// Run follows the plan on the host, in float64, for the latents of one image. The network gets the scaled latents and the timestep;
// noise gives the draw of an index from 0 on; after, if it is not nil, gets each call's index and the latents that it led to.
func (p Plan) Run(x []float64, network func(x []float64, t float64) []float64, noise func(draw int) []float64, after func(call int, x []float64)) []float64 {
	basis := make([][]float64, columns)
	for i := range basis {
		basis[i] = make([]float64, len(x))
	}
	copy(basis[columnX], x)
	draws := 0
	for i, c := range p.Calls {
		x := basis[columnX]
		scaled := slices.Clone(x)
		for j := range scaled {
			scaled[j] *= c.InputScale
		}
		basis[columnOutput] = network(scaled, c.Timestep)
		basis[columnX0] = p.predict(c, x, basis[columnOutput])
		if c.Noise {
			basis[columnNoise] = noise(draws)
			draws++
		}
		next := c.Next.of(basis)
		var memory [Memories][]float64
		for m, form := range c.Memory {
			memory[m] = form.of(basis)
		}
		basis[columnX] = next
		copy(basis[columnMemory:], memory[:])
		if after != nil {
			after(i, next)
		}
	}
	return basis[columnX]
}

// of evaluates a form.
func (f Form) of(basis [][]float64) []float64 {
	out := make([]float64, len(basis[columnX]))
	for i, k := range f {
		if k == 0 {
			continue
		}
		for j, v := range basis[i] {
			out[j] += k * v
		}
	}
	return out
}

// predict is x̂₀, clipped.
func (p Plan) predict(c Call, x, output []float64) []float64 {
	x0 := make([]float64, len(x))
	for i := range x0 {
		x0[i] = c.X0[0]*x[i] + c.X0[1]*output[i]
	}
	limit, divisor := p.ClipRange, 1.0
	if p.Threshold != (Threshold{}) {
		limit = p.Threshold.of(x0)
		divisor = limit
	}
	if limit > 0 {
		for i, v := range x0 {
			x0[i] = min(max(v, -limit), limit) / divisor
		}
	}
	return x0
}

// Threshold is the dynamic thresholding of Saharia et al. 2022 (arXiv:2205.11487): x̂₀ is clipped to ±s and divided by s, where s is
// the quantile Ratio of an image's |x̂₀|, but at least 1 and at most Max. The zero Threshold does nothing.
type Threshold struct {
	Ratio, Max float64
}

// of is s.
func (t Threshold) of(x0 []float64) float64 {
	sorted := slices.Clone(x0)
	for i, v := range sorted {
		sorted[i] = math.Abs(v)
	}
	slices.Sort(sorted)
	below, weight := t.position(len(sorted))
	s := sorted[below]
	if weight > 0 {
		s += weight * (sorted[below+1] - s)
	}
	return min(max(s, 1), t.Max)
}

// position says between which of n sorted values the quantile lies: that of an index and the next, which has the weight.
func (t Threshold) position(n int) (below int, weight float64) {
	at := t.Ratio * float64(n-1)
	below = min(int(at), n-1)
	return below, at - float64(below)
}
