// Package step compiles the training step: gradients, the optimizer and the moving average, in programs whose state
// stays on the devices.
package step

import (
	"time"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/train/loss"
	"limner/train/optim"
	"limner/xla"
	"limner/xla/program"
)

// Settings are what a step is compiled for, besides its objective.
type Settings struct {
	Optimizer     optim.Optimizer
	EMA           bool
	Accumulation  int   // batches of a step
	InTwo         bool  // programs, see Step; so with accumulation
	FSDP          bool  // divide the parameters over the devices too
	Checkpointing bool  // of gradients
	Memory        int64 // bytes that the step may take of a device; 0: all that there is

	Announce func(loading bool, compiling xla.Expected) // of the program with the networks; may be nil
}

// Part is a program of an optimizer step.
type Part struct {
	Name    string
	Program *xla.Program
	Runs    int // in a step
}

// Step holds the compiled training step and its state on the devices.
//
// A step of one batch is one program. With more, a program adds up the gradients of each batch in sums that stay on the
// devices, and a second one, without networks, makes the step from them: so the networks are compiled once, and the
// gradients of a batch need not be whole beside the sums. XLA's CPU compiler, which works on one core for much of its
// time, makes those two at the same time, and in less: what it takes grows faster than a program. There a step of one
// batch is made in two as well.
type Step struct {
	Settings
	backend   *xla.Backend
	objective loss.Objective
	method    optim.Method
	layout    []stateValue     // of state
	program   *program.Program // makes the step, from a batch or from the sums
	gradients *program.Program // adds a batch's to the sums; nil where the step is one program
	ahead     *program.Program // makes a batch of what the feed gives; nil: the feed gives it
	state     program.Arrays
	slots     func() (program.Arrays, error) // makes the optimizer's part of a new state, once; nil: it is there
	// of gradients, and of losses; of a step of one batch only while it is made
	sums    program.Arrays
	frozen  program.Arrays // parameters, those of ahead too
	encoded program.Arrays // what ahead makes of a batch, in place; empty without ahead
	seed    *xla.Array
	host    nn.Values // the last snapshot
}

// The names of a step's arrays beside the objective's. Parameters of the state are below groupParam, sums below
// groupSum.
const (
	inputBatch  = "batch" // number of the batch in the step
	inputRates  = "rates"
	inputSeed   = "seed"
	inputStep   = "step"
	inputRow    = "row" // that is encoded ahead
	sumOfLosses = groupSum + ".loss"

	outputLoss     = "loss"
	outputGradNorm = "grad_norm" // before clipping
)

// Rates are the numbers that change from step to step. They enter the compiled step as one float32 vector.
type Rates struct {
	LearningRate float64
	EMADecay     float64
}

// Measured are the numbers that a step gives back.
type Measured struct {
	Loss, GradNorm float32 // the norm before clipping
}

func (m Measured) finite() bool { return finite(m.Loss) && finite(m.GradNorm) }

func finite(x float32) bool { return x-x == 0 }

// Describe is a step that is neither compiled nor loaded.
func Describe(b *xla.Backend, o loss.Objective, settings Settings) *Step {
	s := &Step{Settings: settings, backend: b, objective: o, method: settings.Optimizer.Method()}
	s.layout = stateLayout(o.Trainable, s.method, s.EMA)
	return s
}

func scalarValue(name string, dtype dtypes.DType) xla.Value {
	return xla.Value{Name: name, Shape: shapes.Make(dtype)}
}

// drawValues are what random numbers follow from.
func (s *Step) drawValues() []xla.Value {
	return []xla.Value{scalarValue(inputSeed, dtypes.Uint64), scalarValue(inputStep, dtypes.Uint64)}
}

// sharding is how a state array lies on the devices. What follows from parameters is divided over them, which costs no
// more traffic than summing whole gradients (ZeRO-1, Rajbhandari et al. 2020, arXiv:1910.02054), and with fsdp the
// parameters too.
func (s *Step) sharding(v stateValue) xla.Sharding {
	if v.group == groupParam && !s.FSDP {
		return xla.Replicated
	}
	return s.backend.Divided(shapes.Make(v.dtype, v.spec.Shape...))
}

func (s *Step) stateValues() []xla.Value {
	values := make([]xla.Value, len(s.layout))
	for i, v := range s.layout {
		values[i] = v.value(s.sharding(v))
	}
	return values
}

func (s *Step) sumValues() []xla.Value {
	var values []xla.Value
	for _, spec := range s.objective.Trainable {
		v := stateValue{groupSum, spec, dtypes.Float32}
		values = append(values, v.value(s.sharding(v)))
	}
	loss := scalarValue(sumOfLosses, dtypes.Float32)
	loss.Class = xla.GradientSums
	return append(values, loss)
}

// parameterValues are those of the trained parameters, of the state.
func (s *Step) parameterValues() []xla.Value { return s.stateValues()[:len(s.objective.Trainable)] }

// frozenValues are those of parameters that are only read.
func (s *Step) frozenValues(tree nn.Tree) []xla.Value {
	return program.Parameters(tree, s.objective.Compute)
}

// batchValues are the frozen parameters and a batch.
func (s *Step) batchValues() []xla.Value {
	return append(s.frozenValues(s.objective.Frozen), s.objective.Batch...)
}

// FLOPs are the operations of a step, see xla.Program.
func (s *Step) FLOPs() (float64, error) {
	var total float64
	for _, part := range s.Parts() {
		n, err := part.Program.FLOPs()
		if err != nil {
			return 0, err
		}
		total += float64(part.Runs) * n
	}
	return total, nil
}

// CompileTime is that of the program that took longest: they are compiled at the same time. Or it is what loading took.
func (s *Step) CompileTime() (longest time.Duration) {
	for _, part := range s.Parts() {
		longest = max(longest, part.Program.CompileTime)
	}
	return longest
}

// Loaded says that no program of the step was compiled by this process.
func (s *Step) Loaded() bool {
	for _, part := range s.Parts() {
		if !part.Program.FromCache {
			return false
		}
	}
	return true
}

// Parts are the programs of a step, in their order.
func (s *Step) Parts() (parts []Part) {
	if s.ahead != nil {
		parts = append(parts, Part{"encoding of an image", s.ahead.Program, s.Accumulation * s.aheadRuns()})
	}
	if s.gradients != nil {
		parts = append(parts, Part{"gradients of a batch", s.gradients.Program, s.Accumulation})
	}
	return append(parts, Part{"step", s.program.Program, 1})
}

// firstSlot is the place in the layout where the optimizer's part of the state begins.
func (s *Step) firstSlot() int {
	if s.EMA {
		return 2 * len(s.objective.Trainable)
	}
	return len(s.objective.Trainable)
}

// aheadRuns is how many rows of a batch each device encodes, one after another.
func (s *Step) aheadRuns() int { return s.objective.Batch[0].Shape.Dim(0) / s.backend.Devices() }

// WithSeed is a step of the same programs that begins with nothing on the devices but an RNG seed.
func (s *Step) WithSeed(seed uint64) (*Step, error) {
	own := *s
	return &own, own.putSeed(seed)
}

// putSeed copies the RNG seed to the devices.
func (s *Step) putSeed(seed uint64) (err error) {
	s.seed, err = xla.Put(s.backend, []uint64{seed}, xla.Replicated)
	return err
}
