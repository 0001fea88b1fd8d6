// Package optim provides optimizers (the graph of one step of one parameter), learning rate schedules and the decay of
// the moving average.
package optim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/settings"
	"limner/models/nn"
)

// Optimizer says how parameters follow their gradients: flags of limner train, under diffusers' names.
type Optimizer struct {
	Name        string  `json:"optimizer" name:"optimizer" default:"adamw" help:"adamw, lion or adafactor." resume:"same"` // one of Optimizers
	WeightDecay float64 `json:"adam_weight_decay" name:"adam-weight-decay" default:"0.01" help:"Of any optimizer." resume:"same"`
	MaxGradNorm float64 `json:"max_grad_norm" default:"1" help:"Global norm that gradients are clipped to; 0 for no clipping." resume:"same"`
	Moments     string  `json:"adam_moments_dtype" name:"adam-moments-dtype" default:"f32" help:"How AdamW and Lion keep their moments: f32, bf16 (rounded by chance) or 8bit (in blocks of 256)." resume:"same"` // one of MomentsDTypes
	AdamW
	Lion
	Adafactor
}

// The values of Optimizer.Name.
const (
	OptimizerAdamW     = "adamw"
	OptimizerLion      = "lion"
	OptimizerAdafactor = "adafactor"
)

// Optimizers are the names that Optimizer knows.
var Optimizers = []string{OptimizerAdamW, OptimizerLion, OptimizerAdafactor}

// DefaultOptimizer holds the defaults of diffusers' scripts: AdamW. Those of Lion are its paper's, Adafactor's are
// those of transformers, but with the learning rate of the run.
func DefaultOptimizer() Optimizer { return settings.Default[Optimizer]() }

// Validate reports every setting out of range, those of optimizers that are not chosen included.
func (o Optimizer) Validate() error {
	errs := []error{o.AdamW.validate(), o.Lion.validate(), o.Adafactor.validate()}
	if !slices.Contains(Optimizers, o.Name) {
		errs = append(errs, fmt.Errorf("optimizer: got %q, supported: %s", o.Name, strings.Join(Optimizers, ", ")))
	}
	if !slices.Contains(MomentsDTypes, o.Moments) {
		supported := strings.Join(MomentsDTypes, ", ")
		errs = append(errs, fmt.Errorf("adam_moments_dtype: got %q, supported: %s", o.Moments, supported))
	}
	if o.Name == OptimizerAdafactor && o.Moments != MomentsFloat32 {
		errs = append(errs, fmt.Errorf("adam_moments_dtype: got %s, want %s: adafactor's are small as they are",
			o.Moments, MomentsFloat32))
	}
	errs = append(errs,
		inRange("adam_weight_decay", o.WeightDecay, 0, math.MaxFloat64),
		inRange("max_grad_norm", o.MaxGradNorm, 0, math.MaxFloat64))
	return errors.Join(errs...)
}

// inRange fails unless low ≤ value ≤ high.
func inRange(name string, value, low, high float64) error {
	switch {
	case value >= low && value <= high:
		return nil
	case high == math.MaxFloat64:
		return fmt.Errorf("%s: got %g, want at least %g", name, value, low)
	}
	return fmt.Errorf("%s: got %g, want %g to %g", name, value, low, high)
}

// decayInRange fails unless 0 ≤ value < 1.
func decayInRange(name string, value float64) error {
	if !(value >= 0 && value < 1) {
		return fmt.Errorf("%s: got %g, want at least 0 and below 1", name, value)
	}
	return nil
}

// Method computes the steps of an optimizer.
type Method interface {
	// Slots describes the optimizer state of a parameter. All of it begins with zeros.
	Slots(spec nn.Spec) []Slot
	// Rates are the numbers of optimizer step n, counted from 1.
	Rates(learningRate float64, n int) []float64
	// Update computes one step of one parameter: its next value and its next state.
	Update(c Change) (next *Node, state []*Node)
}

// Slot is an array of the state that an optimizer keeps of a parameter.
type Slot struct {
	Name  string // before the parameter's key
	Shape []int
	Kind  nn.Kind // of its layout in files
	DType dtypes.DType
}

// Change holds what one step of one parameter depends on.
type Change struct {
	Spec        nn.Spec
	Param, Grad *Node                  // float32, of one shape
	State       []*Node                // one node for each slot
	Rates       []*Node                // float32 scalars
	Key         func(i int) *Node      // RNG key for one of its moments
	Finite      *Node                  // bool scalar: loss and gradients are finite
	Once        func(...*Node) []*Node // see xla.Backend.Once
}

// kept are the next values of the state, or the present ones where loss or gradients are not finite.
func (c Change) kept(next []*Node) []*Node {
	kept := make([]*Node, len(next))
	for i := range next {
		kept[i] = Where(c.Finite, next[i], c.State[i])
	}
	return kept
}

// Method is the optimizer that the settings describe.
func (o Optimizer) Method() Method {
	m := moments{dtype: o.Moments}
	switch o.Name {
	case OptimizerLion:
		return lionMethod{o.Lion, o.WeightDecay, m}
	case OptimizerAdafactor:
		return adafactorMethod{o.Adafactor, o.WeightDecay}
	}
	return adamWMethod{o.AdamW, o.WeightDecay, m}
}

// Clip scales the gradients down to MaxGradNorm and returns them with their global norm before that.
func (o Optimizer) Clip(grads []*Node) (clipped []*Node, norm *Node) {
	squares := ReduceAllSum(Square(grads[0]))
	for _, grad := range grads[1:] {
		squares = Add(squares, ReduceAllSum(Square(grad)))
	}
	norm = Sqrt(squares)
	if o.MaxGradNorm == 0 {
		return grads, norm
	}
	// torch's clip_grad_norm_ adds 1e-6 to the norm.
	factor := MinScalar(Div(Scalar(norm.Graph(), norm.DType(), o.MaxGradNorm), AddScalar(norm, 1e-6)), 1)
	clipped = make([]*Node, len(grads))
	for i, grad := range grads {
		clipped[i] = Mul(grad, factor)
	}
	return clipped, norm
}
