package schedule

import "math"

// The offsets in the vector of a Call's coefficients: the timestep, the input scale, the two factors of x̂₀, the range
// that x̂₀ is clipped to, and the forms of the next x and of the next memory, each of FormSize numbers.
const (
	OffsetTimestep = iota
	OffsetInputScale
	OffsetX0
	OffsetClip  = OffsetX0 + 2
	OffsetForms = OffsetClip + 1
	// CoefficientCount is the vector's length.
	CoefficientCount = OffsetForms + (1+Memories)*FormSize
)

// Coefficients is the vector that brings call i to the devices: an input of the one program that follows all schedules.
func (s Schedule) Coefficients(i int) []float32 {
	c := s.Calls[i]
	clip := s.ClipRange
	if clip == 0 {
		clip = math.MaxFloat32
	}
	out := make([]float32, 0, CoefficientCount)
	for _, v := range []float64{c.Timestep, c.InputScale, c.X0[0], c.X0[1], clip} {
		out = append(out, float32(v))
	}
	for _, form := range append([]Form{c.Next}, c.Memory[:]...) {
		for _, v := range form {
			out = append(out, float32(v))
		}
	}
	return out
}
