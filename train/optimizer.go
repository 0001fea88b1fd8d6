package train

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// Optimizer says how parameters follow their gradients, under diffusers' flag names.
type Optimizer struct {
	Name        string  `json:"optimizer"`          // one of Optimizers
	WeightDecay float64 `json:"adam_weight_decay"`  // of each of them, apart from the gradient
	MaxGradNorm float64 `json:"max_grad_norm"`      // gradients are scaled down to this global norm; 0 leaves them
	Moments     string  `json:"adam_moments_dtype"` // one of MomentsDTypes: how AdamW and Lion keep their moments
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

// DefaultOptimizer holds the defaults of diffusers' scripts: AdamW. Those of the others are their papers'.
func DefaultOptimizer() Optimizer {
	return Optimizer{
		Name: OptimizerAdamW, WeightDecay: 1e-2, MaxGradNorm: 1, Moments: MomentsFloat32,
		AdamW: DefaultAdamW(), Lion: DefaultLion(), Adafactor: DefaultAdafactor(),
	}
}

// Validate reports every setting out of range, those of optimizers that are not chosen included.
func (o Optimizer) Validate() error {
	errs := []error{o.AdamW.validate(), o.Lion.validate(), o.Adafactor.validate()}
	if !slices.Contains(Optimizers, o.Name) {
		errs = append(errs, fmt.Errorf("optimizer: got %q, supported: %s", o.Name, strings.Join(Optimizers, ", ")))
	}
	if !slices.Contains(MomentsDTypes, o.Moments) {
		errs = append(errs, fmt.Errorf("adam_moments_dtype: got %q, supported: %s", o.Moments, strings.Join(MomentsDTypes, ", ")))
	}
	if o.Name == OptimizerAdafactor && o.Moments != MomentsFloat32 {
		errs = append(errs, fmt.Errorf("adam_moments_dtype: got %s, want %s: adafactor's are small as they are", o.Moments, MomentsFloat32))
	}
	errs = append(errs, inRange("adam_weight_decay", o.WeightDecay, 0, math.MaxFloat64), inRange("max_grad_norm", o.MaxGradNorm, 0, math.MaxFloat64))
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

// method is an optimizer at work.
type method interface {
	// slots are what it remembers of a parameter from step to step. All begin with zeros.
	slots(spec nn.Spec) []slot
	// rates are the numbers of optimizer step n, counted from 1.
	rates(learningRate float64, n int) []float64
	// update is one step of one parameter: its next value, and what is remembered next.
	update(c change) (next *Node, memory []*Node)
}

// slot is an array that an optimizer remembers of a parameter.
type slot struct {
	name  string // before the parameter's key
	shape []int
	kind  nn.Kind // of its layout in files
	dtype dtypes.DType
}

// change is what one step of one parameter follows from.
type change struct {
	spec        nn.Spec
	param, grad *Node                  // float32, of one shape
	memory      []*Node                // one for each slot
	rates       []*Node                // float32 scalars
	key         func(i int) *Node      // of random numbers for one of its moments
	good        *Node                  // whether loss and gradients are finite numbers
	once        func(...*Node) []*Node // see xla.Backend.Once
}

// kept are the memory's next values, or those that it has where the step is not finite.
func (c change) kept(next []*Node) []*Node {
	kept := make([]*Node, len(next))
	for i := range next {
		kept[i] = Where(c.good, next[i], c.memory[i])
	}
	return kept
}

// method is the optimizer that the settings describe.
func (o Optimizer) method() method {
	m := moments{dtype: o.Moments}
	switch o.Name {
	case OptimizerLion:
		return lionMethod{o.Lion, o.WeightDecay, m}
	case OptimizerAdafactor:
		return adafactorMethod{o.Adafactor, o.WeightDecay}
	}
	return adamWMethod{o.AdamW, o.WeightDecay, m}
}

// clip scales the gradients down to MaxGradNorm and returns them with their global norm before that.
func (o Optimizer) clip(grads []*Node) (clipped []*Node, norm *Node) {
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
