package schedule

import (
	"math"
	"slices"
)

// Run follows the schedule on the host, in float64, for the latents of one image. The network gets the scaled latents
// and the timestep; noise gives the draw of an index from 0 on; after, if it is not nil, gets each call's index and the
// latents that it led to.
func (s Schedule) Run(x []float64, network func(x []float64, t float64) []float64, noise func(draw int) []float64,

	after func(call int, x []float64)) []float64 {
	var memory [Memories][]float64
	for i := range memory {
		memory[i] = make([]float64, len(x))
	}
	drawn := make([]float64, len(x))
	draws := 0
	for i, c := range s.Calls {
		scaled := slices.Clone(x)
		for j := range scaled {
			scaled[j] *= c.InputScale
		}
		output := network(scaled, c.Timestep)
		if c.Noise {
			drawn = noise(draws)
			draws++
		}
		x, memory = s.Step(i, x, output, memory, drawn)
		if after != nil {
			after(i, x)
		}
	}
	return x
}

// Step is the linear step after the network's output of call i, on the host: the next x and memory.
func (s Schedule) Step(i int, x, output []float64, memory [Memories][]float64, noise []float64) (
	next []float64, nextMemory [Memories][]float64) {
	c := s.Calls[i]
	basis := append([][]float64{x, output, s.predict(c, x, output)}, memory[:]...)
	basis = append(basis, noise)
	for m, form := range c.Memory {
		nextMemory[m] = form.of(basis)
	}
	return c.Next.of(basis), nextMemory
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
func (s Schedule) predict(c Call, x, output []float64) []float64 {
	x0 := make([]float64, len(x))
	for i := range x0 {
		x0[i] = c.X0[0]*x[i] + c.X0[1]*output[i]
	}
	limit, divisor := s.ClipRange, 1.0
	if s.Threshold != (Threshold{}) {
		limit = s.Threshold.of(x0)
		divisor = limit
	}
	if limit > 0 {
		for i, v := range x0 {
			x0[i] = min(max(v, -limit), limit) / divisor
		}
	}
	return x0
}

// of is s.
func (t Threshold) of(x0 []float64) float64 {
	sorted := slices.Clone(x0)
	for i, v := range sorted {
		sorted[i] = math.Abs(v)
	}
	slices.Sort(sorted)
	below, weight := t.Quantile(len(sorted))
	s := sorted[below]
	if weight > 0 {
		s += weight * (sorted[below+1] - s)
	}
	return min(max(s, 1), t.Max)
}
