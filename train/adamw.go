package train

import (
	"errors"
	"fmt"
	"math"

	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// AdamW are the settings of the optimizer (Loshchilov and Hutter 2019, arXiv:1711.05101), under diffusers' flag names.
type AdamW struct {
	Beta1       float64 `json:"adam_beta1"`
	Beta2       float64 `json:"adam_beta2"`
	WeightDecay float64 `json:"adam_weight_decay"`
	Epsilon     float64 `json:"adam_epsilon"`
	MaxGradNorm float64 `json:"max_grad_norm"` // gradients are scaled down to this global norm; 0 leaves them
}

// DefaultAdamW holds the defaults of diffusers' scripts.
func DefaultAdamW() AdamW {
	return AdamW{Beta1: 0.9, Beta2: 0.999, WeightDecay: 1e-2, Epsilon: 1e-8, MaxGradNorm: 1}
}

// Validate reports every setting out of range.
func (a AdamW) Validate() error {
	var errs []error
	bad := func(name string, value float64, want string) {
		errs = append(errs, fmt.Errorf("%s: got %g, want %s", name, value, want))
	}
	if !(a.Beta1 >= 0 && a.Beta1 < 1) {
		bad("adam_beta1", a.Beta1, "at least 0 and below 1")
	}
	if !(a.Beta2 >= 0 && a.Beta2 < 1) {
		bad("adam_beta2", a.Beta2, "at least 0 and below 1")
	}
	if !(a.WeightDecay >= 0) {
		bad("adam_weight_decay", a.WeightDecay, "at least 0")
	}
	if !(a.Epsilon > 0) {
		bad("adam_epsilon", a.Epsilon, "above 0")
	}
	if !(a.MaxGradNorm >= 0) {
		bad("max_grad_norm", a.MaxGradNorm, "at least 0")
	}
	return errors.Join(errs...)
}

// rates are the numbers that change from step to step. They enter the compiled step as one float32 vector.
type rates struct {
	learningRate float64
	emaDecay     float64
}

const rateCount = 4

// vector prepares the rates for optimizer step n, counted from 1.
func (a AdamW) vector(r rates, n int) []float32 {
	return []float32{
		float32(r.learningRate / (1 - math.Pow(a.Beta1, float64(n)))), // the step size with the first moment's bias taken out
		float32(math.Sqrt(1 - math.Pow(a.Beta2, float64(n)))),         // √ of the second moment's bias
		float32(1 - r.learningRate*a.WeightDecay),
		float32(r.emaDecay),
	}
}

// clip scales the gradients down to MaxGradNorm and returns them with their global norm before that.
func (a AdamW) clip(grads []*Node) ([]*Node, *Node) {
	var squares *Node
	for _, grad := range grads {
		s := ReduceAllSum(Square(grad))
		if squares == nil {
			squares = s
		} else {
			squares = Add(squares, s)
		}
	}
	norm := Sqrt(squares)
	if a.MaxGradNorm == 0 {
		return grads, norm
	}
	// torch's clip_grad_norm_ adds 1e-6 to the norm.
	factor := MinScalar(Div(Scalar(norm.Graph(), norm.DType(), a.MaxGradNorm), AddScalar(norm, 1e-6)), 1)
	clipped := make([]*Node, len(grads))
	for i, grad := range grads {
		clipped[i] = Mul(grad, factor)
	}
	return clipped, norm
}

// update is one step for one parameter; all have its shape, in float32. stepSize, bias and decay are scalars from vector.
func (a AdamW) update(param, m, v, grad, stepSize, bias, decay *Node) (nextParam, nextM, nextV *Node) {
	// m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², θ ← (1-ηλ)θ - η/(1-β₁ⁿ) · m / (√v/√(1-β₂ⁿ) + ε)
	nextM = Add(MulScalar(m, a.Beta1), MulScalar(grad, 1-a.Beta1))
	nextV = Add(MulScalar(v, a.Beta2), MulScalar(Square(grad), 1-a.Beta2))
	denominator := AddScalar(Div(Sqrt(nextV), bias), a.Epsilon)
	nextParam = Sub(Mul(param, decay), Mul(stepSize, Div(nextM, denominator)))
	return nextParam, nextM, nextV
}
