package optim

import (
	"errors"
	"fmt"
	"math"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// AdamW are the settings of Loshchilov and Hutter 2019 (arXiv:1711.05101).
type AdamW struct {
	Beta1   float64 `json:"adam_beta1" name:"adam-beta1" default:"0.9" help:"Decay of AdamW's first moment." resume:"same"`
	Beta2   float64 `json:"adam_beta2" name:"adam-beta2" default:"0.999" help:"Decay of AdamW's second moment." resume:"same"`
	Epsilon float64 `json:"adam_epsilon" name:"adam-epsilon" default:"1e-8" help:"Of AdamW." resume:"same"`
}

func (a AdamW) validate() error {
	errs := []error{decayInRange("adam_beta1", a.Beta1), decayInRange("adam_beta2", a.Beta2)}
	if !(a.Epsilon > 0) {
		errs = append(errs, fmt.Errorf("adam_epsilon: got %g, want above 0", a.Epsilon))
	}
	return errors.Join(errs...)
}

// adamWMethod remembers the first and second moment: exp_avg and exp_avg_sq.
type adamWMethod struct {
	AdamW
	decay   float64
	moments moments
}

func (a adamWMethod) Slots(spec nn.Spec) []Slot {
	return append(a.moments.slots("exp_avg", spec), a.moments.slots("exp_avg_sq", spec)...)
}

func (a adamWMethod) Rates(learningRate float64, n int) []float64 {
	return []float64{
		learningRate / (1 - math.Pow(a.Beta1, float64(n))), // the step size with the first moment's bias taken out
		math.Sqrt(1 - math.Pow(a.Beta2, float64(n))),       // √ of the second moment's bias
		1 - learningRate*a.decay,
	}
}

func (a adamWMethod) Update(c Change) (*Node, []*Node) {
	stepSize, bias, decay := c.Rates[0], c.Rates[1], c.Rates[2]
	half := len(c.State) / 2
	shape := c.Param.Shape()
	m := a.moments.read(c.State[:half], shape, signed)
	v := a.moments.read(c.State[half:], shape, unsigned)
	// m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², θ ← (1-ηλ)θ - η/(1-β₁ⁿ) · m / (√v/√(1-β₂ⁿ) + ε)
	m = Add(MulScalar(m, a.Beta1), MulScalar(c.Grad, 1-a.Beta1))
	v = Add(MulScalar(v, a.Beta2), MulScalar(Square(c.Grad), 1-a.Beta2))
	state := c.kept(append(a.moments.write(c, 0, m, signed), a.moments.write(c, 1, v, unsigned)...))
	if a.moments.exact(shape.Size()) {
		state = c.Once(state...)
		m, v = state[0], state[1]
	}
	denominator := AddScalar(Div(Sqrt(v), bias), a.Epsilon)
	next := Sub(Mul(c.Param, decay), Mul(stepSize, Div(m, denominator)))
	return next, state
}
