package optim

import (
	"errors"
	"fmt"
	"math"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// Adafactor are the settings of Shazeer and Stern 2018 (arXiv:1804.04235), under the names of transformers' class.
// Without a first moment, as there by default.
type Adafactor struct {
	Epsilon1       float64 `json:"adafactor_eps1"`            // added to squares of gradients
	Epsilon2       float64 `json:"adafactor_eps2"`            // least size of a parameter, for ScaleParameter
	ClipThreshold  float64 `json:"adafactor_clip_threshold"`  // root mean square that an update is scaled down to
	DecayRate      float64 `json:"adafactor_decay_rate"`      // the second moment's decay is 1 - n^DecayRate at step n
	ScaleParameter bool    `json:"adafactor_scale_parameter"` // the learning rate is relative to a parameter's size
	RelativeStep   bool    `json:"adafactor_relative_step"`   // the learning rate of step n is min(0.01, 1/√n), whatever the run's is
}

// DefaultAdafactor holds transformers' defaults, but with the learning rate of the run.
func DefaultAdafactor() Adafactor {
	return Adafactor{Epsilon1: 1e-30, Epsilon2: 1e-3, ClipThreshold: 1, DecayRate: -0.8}
}

func (a Adafactor) validate() error {
	var errs []error
	above0 := func(name string, value float64) {
		if !(value > 0) {
			errs = append(errs, fmt.Errorf("%s: got %g, want above 0", name, value))
		}
	}
	above0("adafactor_eps1", a.Epsilon1)
	above0("adafactor_eps2", a.Epsilon2)
	above0("adafactor_clip_threshold", a.ClipThreshold)
	if !(a.DecayRate < 0) {
		errs = append(errs, fmt.Errorf("adafactor_decay_rate: got %g, want below 0", a.DecayRate))
	}
	return errors.Join(errs...)
}

// adafactorMethod remembers the mean squares of a matrix's rows and columns, exp_avg_sq_row and exp_avg_sq_col, and
// exp_avg_sq of what has fewer than two axes. As in transformers, a convolution's kernel is a matrix [height, width]
// for each pair of channels.
type adafactorMethod struct {
	Adafactor
	decay float64
}

// factors are the axes of the two factors of a parameter: torch's last two in files, the first two of a kernel here.
func (a adafactorMethod) factors(spec nn.Spec) (row, column int, ok bool) {
	switch {
	case len(spec.Shape) < 2:
		return 0, 0, false
	case spec.Kind == nn.Dense:
		return 1, 0, true
	}
	return 0, 1, true
}

func (a adafactorMethod) Slots(spec nn.Spec) []Slot {
	row, column, ok := a.factors(spec)
	if !ok {
		return []Slot{{"exp_avg_sq", spec.Shape, spec.Kind, dtypes.Float32}}
	}
	without := func(axis int) []int {
		return append(append([]int{}, spec.Shape[:axis]...), spec.Shape[axis+1:]...)
	}
	return []Slot{
		{"exp_avg_sq_row", without(column), nn.Array, dtypes.Float32},
		{"exp_avg_sq_col", without(row), nn.Array, dtypes.Float32},
	}
}

func (a adafactorMethod) Rates(learningRate float64, n int) []float64 {
	if a.RelativeStep {
		learningRate = min(1e-2, 1/math.Sqrt(float64(n)))
	}
	return []float64{learningRate, 1 - math.Pow(float64(n), a.DecayRate), a.decay}
}

func (a adafactorMethod) Update(c Change) (*Node, []*Node) {
	rate, decay, weightDecay := c.Rates[0], c.Rates[1], c.Rates[2]
	if a.ScaleParameter {
		rate = Mul(rate, MaxScalar(rootMeanSquare(c.Param), a.Epsilon2))
	}
	average := func(old, new *Node) *Node { return Add(Mul(old, decay), Mul(new, OneMinus(decay))) }
	squares := AddScalar(Square(c.Grad), a.Epsilon1)
	var state []*Node
	var update *Node
	if row, column, ok := a.factors(c.Spec); ok {
		rows := average(c.State[0], ReduceMean(squares, column))
		columns := average(c.State[1], ReduceMean(squares, row))
		state = []*Node{rows, columns}
		// 1/√v of v ≈ r·c/mean(r)
		r := InsertAxes(rows, column)
		r = Rsqrt(Div(r, ReduceAndKeep(r, ReduceMean, row)))
		update = Mul(Mul(c.Grad, r), Rsqrt(InsertAxes(columns, row)))
	} else {
		v := average(c.State[0], squares)
		state = []*Node{v}
		update = Mul(c.Grad, Rsqrt(v))
	}
	update = Div(update, MaxScalar(DivScalar(rootMeanSquare(update), a.ClipThreshold), 1))
	next := Sub(c.Param, Mul(Mul(rate, weightDecay), c.Param))
	return Sub(next, Mul(rate, update)), c.kept(state)
}

func rootMeanSquare(x *Node) *Node { return Sqrt(ReduceAllMean(Square(x))) }
