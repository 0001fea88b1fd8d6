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
	Epsilon1       float64 `json:"adafactor_eps1" name:"adafactor-eps1" default:"1e-30" help:"Added to the squares of Adafactor's gradients." resume:"same"`
	Epsilon2       float64 `json:"adafactor_eps2" name:"adafactor-eps2" default:"1e-3" help:"Least size of a parameter, for --adafactor_scale_parameter." resume:"same"`
	ClipThreshold  float64 `json:"adafactor_clip_threshold" name:"adafactor-clip-threshold" default:"1" help:"Root mean square that Adafactor's updates are scaled down to." resume:"same"`
	DecayRate      float64 `json:"adafactor_decay_rate" name:"adafactor-decay-rate" default:"-0.8" help:"Adafactor's second moment decays by 1 - n^this at step n." resume:"same"`
	ScaleParameter bool    `json:"adafactor_scale_parameter" name:"adafactor-scale-parameter" help:"Take Adafactor's learning rate as relative to the size of each parameter." resume:"same"`
	RelativeStep   bool    `json:"adafactor_relative_step" name:"adafactor-relative-step" help:"Let Adafactor's learning rate be min(0.01, 1/√step), whatever --learning_rate says." resume:"same"`
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
