package train

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"golang.org/x/sync/errgroup"

	"limner/models/nn"
	"limner/train/folder"
	"limner/train/loss"
	"limner/train/optim"
	"limner/xla"
	"limner/xla/program"
)

// stepSettings are what a step is compiled for, besides its objective.
type stepSettings struct {
	optimizer    optim.Optimizer
	ema          bool
	accumulation int  // batches of a step
	inTwo        bool // programs, see stepper; so with accumulation
	fsdp         bool
	checkpoint   bool  // gradients
	memory       int64 // bytes that the step may take of a device; 0: all that there is

	announce func(loading bool, compiling xla.Expected) // of the program with the networks; may be nil
}

// stepper holds the compiled training step and its state on the devices.
//
// A step of one batch is one program. With more, a program adds up the gradients of each batch in sums that stay on the devices, and
// a second one, without networks, makes the step from them: so the networks are compiled once, and the gradients of a batch
// need not be whole beside the sums. XLA's CPU compiler, which works on one core for much of its time, makes those two
// at the same time, and in less: what it takes grows faster than a program. There a step of one batch is made in two as well.
type stepper struct {
	stepSettings
	backend   *xla.Backend
	objective loss.Objective
	method    optim.Method
	layout    []stateValue     // of state
	program   *program.Program // makes the step, from a batch or from the sums
	gradients *program.Program // adds a batch's to the sums; nil where the step is one program
	ahead     *program.Program // makes a batch of what the feed gives; nil: the feed gives it
	state     program.Arrays
	slots     func() (program.Arrays, error) // makes the optimizer's part of a new state, once; nil: it is there
	sums      program.Arrays                 // of gradients, and of losses; of a step of one batch only while it is made
	frozen    program.Arrays                 // parameters, those of ahead too
	encoded   program.Arrays                 // what ahead makes of a batch, in place; empty without ahead
	seed      *xla.Array
	host      nn.Values // the last snapshot
}

// The names of a step's arrays beside the objective's. Parameters of the state are below groupParam, sums below groupSum.
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

// rates are the numbers that change from step to step. They enter the compiled step as one float32 vector.
type rates struct {
	learningRate float64
	emaDecay     float64
}

// describeStep is a step that is neither compiled nor loaded.
func describeStep(b *xla.Backend, o loss.Objective, settings stepSettings) *stepper {
	s := &stepper{stepSettings: settings, backend: b, objective: o, method: settings.optimizer.Method()}
	s.layout = stateLayout(o.Trainable, s.method, s.ema)
	return s
}

// newStepper compiles the step. It fails with a tooLarge where that takes more memory than it may.
func newStepper(ctx context.Context, b *xla.Backend, o loss.Objective, settings stepSettings) (*stepper, error) {
	s := describeStep(b, o, settings)
	var programs errgroup.Group
	for _, compile := range []func(context.Context) error{s.compileAhead, s.compileGradients, s.compileStep} {
		programs.Go(func() error { return compile(ctx) })
	}
	if err := programs.Wait(); err != nil {
		return nil, err
	}
	return s, s.checkMemory()
}

// compileAhead compiles the program ahead of the step, if there is one.
func (s *stepper) compileAhead(ctx context.Context) (err error) {
	a := s.objective.Ahead
	if a == nil {
		return nil
	}
	f := program.Function{Name: "ahead_of_" + s.objective.Name, Apart: true, State: s.objective.Batch[:1]}
	f.Inputs = append(s.frozenValues(a.Frozen), a.Input, scalarValue(inputRow, dtypes.Int32))
	f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		row, fed, encoded := in.Get(inputRow), in.Get(a.Input.Name), f.State[0].Name
		at := func(x *Node) []*Node {
			return append([]*Node{row}, slices.Repeat([]*Node{ZerosLike(row)}, x.Rank()-1)...)
		}
		one := DynamicSlice(fed, at(fed), append([]int{1}, fed.Shape().Dimensions[1:]...))
		one = a.Build(program.BindForward(s.backend, a.Frozen, in), one)
		all := in.Get(encoded)
		return program.Nodes{encoded: DynamicUpdateSlice(all, one, at(all))}, nil
	}
	s.ahead, err = program.Compile(ctx, s.backend, f)
	return err
}

// compileGradients compiles the program of the networks, where that is not the step's.
func (s *stepper) compileGradients(ctx context.Context) (err error) {
	if !s.inTwo {
		return nil
	}
	o := s.objective
	f := program.Function{Name: "gradients_" + o.Name, Build: s.buildGradients, Announce: s.announce}
	f.Outputs = []xla.Value{{Name: outputLoss}}
	if sums := s.sumValues(); s.accumulation > 1 {
		f.State = sums
	} else {
		f.Outputs = append(sums, f.Outputs...)
	}
	f.Inputs = append(append(s.parameterValues(), s.batchValues()...), scalarValue(inputBatch, dtypes.Uint32))
	f.Inputs = append(f.Inputs, s.drawValues()...)
	s.gradients, err = program.Compile(ctx, s.backend, f)
	return err
}

// compileStep compiles the program that makes the step.
func (s *stepper) compileStep(ctx context.Context) (err error) {
	o := s.objective
	f := program.Function{
		Name: "train_" + o.Name, Build: s.buildStep, State: s.stateValues(), Inputs: s.batchValues(),
		Outputs: []xla.Value{{Name: outputLoss}, {Name: outputGradNorm}}, Announce: s.announce,
	}
	if s.inTwo {
		f.Name, f.Build, f.Inputs, f.Announce = "apply_"+o.Name, s.buildApply, s.sumValues(), nil
	}
	f.Inputs = append(f.Inputs, xla.Value{Name: inputRates, Shape: shapes.Make(dtypes.Float32, 1+len(s.method.Rates(1, 1)))})
	f.Inputs = append(f.Inputs, s.drawValues()...)
	s.program, err = program.Compile(ctx, s.backend, f)
	return err
}

// putSeed copies the RNG seed to the devices.
func (s *stepper) putSeed(seed uint64) (err error) {
	s.seed, err = xla.Put(s.backend, []uint64{seed}, xla.Replicated)
	return err
}

func scalarValue(name string, dtype dtypes.DType) xla.Value {
	return xla.Value{Name: name, Shape: shapes.Make(dtype)}
}

// drawValues are what random numbers follow from.
func (s *stepper) drawValues() []xla.Value {
	return []xla.Value{scalarValue(inputSeed, dtypes.Uint64), scalarValue(inputStep, dtypes.Uint64)}
}

// sharding is how a state array lies on the devices. What follows from parameters is divided over them, which costs no more
// traffic than summing whole gradients (ZeRO-1, Rajbhandari et al. 2020, arXiv:1910.02054), and with fsdp the parameters too.
func (s *stepper) sharding(v stateValue) xla.Sharding {
	if v.group == groupParam && !s.fsdp {
		return xla.Replicated
	}
	return s.backend.Divided(shapes.Make(v.dtype, v.spec.Shape...))
}

func (s *stepper) stateValues() []xla.Value {
	values := make([]xla.Value, len(s.layout))
	for i, v := range s.layout {
		values[i] = v.value(s.sharding(v))
	}
	return values
}

func (s *stepper) sumValues() []xla.Value {
	var values []xla.Value
	for _, spec := range s.objective.Trainable {
		v := stateValue{groupSum, spec, dtypes.Float32}
		values = append(values, v.value(s.sharding(v)))
	}
	return append(values, scalarValue(sumOfLosses, dtypes.Float32))
}

// parameterValues are those of the trained parameters, of the state.
func (s *stepper) parameterValues() []xla.Value { return s.stateValues()[:len(s.objective.Trainable)] }

// frozenValues are those of parameters that are only read.
func (s *stepper) frozenValues(tree nn.Tree) []xla.Value {
	return program.Parameters(tree, s.objective.Compute)
}

// batchValues are the frozen parameters and a batch.
func (s *stepper) batchValues() []xla.Value {
	return append(s.frozenValues(s.objective.Frozen), s.objective.Batch...)
}

// compileAndLoad has a step compiled and meanwhile puts what it keeps on the devices, see load: much of compiling is the work of one core.
// described is the step before it is compiled. Once ctx is done both end.
func compileAndLoad(ctx context.Context, described *stepper, compile func() (*stepper, error), weights func() (nn.Source, *folder.Checkpoint)) (*stepper, error) {
	loading := make(chan error, 1)
	go func() {
		from, state := weights()
		loading <- described.load(ctx, nn.Until(ctx, from), state)
	}()
	s, err := compile()
	if failed := <-loading; err == nil { // where compiling fails too it says why: loading may just have met the same lack of memory
		err = failed
	}
	if err != nil {
		return nil, errors.Join(err, described.free())
	}
	s.state, s.slots, s.sums = described.state, described.slots, described.sums
	s.frozen, s.encoded = described.frozen, described.encoded
	return s, nil
}

// load puts the frozen parameters and the state on the devices: that of the start where none was saved. Both at once, since much of it is
// waiting for the system to find memory.
func (s *stepper) load(ctx context.Context, weights nn.Source, state *folder.Checkpoint) error {
	var both errgroup.Group
	both.Go(func() error { return s.begin(ctx, weights, state) })
	both.Go(func() error { return errors.Join(s.loadFrozen(weights), s.loadZeros()) })
	return both.Wait()
}

func (s *stepper) loadFrozen(weights nn.Source) error {
	tree := s.objective.FrozenTree()
	s.frozen = program.Arrays{}
	return s.frozen.Load(s.backend, weights, tree, s.frozenValues(tree))
}

// loadZeros puts on the devices what each step begins with.
func (s *stepper) loadZeros() (err error) {
	if s.accumulation > 1 {
		if s.sums, err = program.PutZeros(s.backend, s.sumValues()); err != nil {
			return err
		}
	}
	if s.objective.Ahead != nil {
		s.encoded, err = program.PutZeros(s.backend, s.objective.Batch[:1])
	}
	return err
}

// begin gives the devices a state: one that was saved, or where it is nil that of the start: averages equal to the parameters, and slots of
// zeros, which are made while the first gradients are. Arrays that are there stay, with other contents.
func (s *stepper) begin(ctx context.Context, weights nn.Source, state *folder.Checkpoint) error {
	s.slots = nil
	if err := s.state.Free(); err != nil {
		return err
	}
	if s.state == nil {
		s.state = program.Arrays{}
	}
	if state != nil {
		return s.restore(ctx, state)
	}
	tree, values := s.objective.Trainable, s.stateValues()
	n := len(tree)
	if s.ema {
		if err := s.state.Load(s.backend, weights, tree, values[n:2*n]); err != nil {
			return err
		}
	}
	if err := s.state.Load(s.backend, weights, tree, values[:n]); err != nil {
		return err
	}
	s.slots = sync.OnceValues(func() (program.Arrays, error) { return program.PutZeros(s.backend, values[s.firstSlot():]) })
	return nil
}

// firstSlot is the place in the layout where the optimizer's part of the state begins.
func (s *stepper) firstSlot() int {
	if s.ema {
		return 2 * len(s.objective.Trainable)
	}
	return len(s.objective.Trainable)
}

// ensureState adds the optimizer state that loading left out.
func (s *stepper) ensureState() error {
	if s.slots == nil {
		return nil
	}
	slots, err := s.slots()
	s.slots = nil
	maps.Copy(s.state, slots)
	return err
}

// restore gives the devices a state that was saved.
func (s *stepper) restore(ctx context.Context, state *folder.Checkpoint) error {
	values := map[string]xla.Value{}
	for _, v := range s.stateValues() {
		values[v.Name] = v
	}
	return state.Each(func(key string, data []float32) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		a, err := put(s.backend, values[key], data)
		if err == nil {
			err = s.state.Set(key, a)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
}

// Resident are the parameters on the devices by their keys, the averages in the place of those that are trained where there are any. Training
// replaces what the arrays hold.
func (s *stepper) Resident() program.Arrays {
	arrays := maps.Clone(s.frozen)
	group := groupParam
	if s.ema {
		group = groupEMA
	}
	for _, spec := range s.objective.Trainable {
		arrays[spec.Key] = s.state[group+"."+spec.Key]
	}
	return arrays
}

// free releases everything that the step holds on the devices.
func (s *stepper) free() error {
	seed := program.Arrays{inputSeed: s.seed}
	return errors.Join(s.state.Free(), s.sums.Free(), s.frozen.Free(), s.encoded.Free(), seed.Free())
}

// flops are the operations of a step, see xla.Program.
func (s *stepper) flops() (float64, error) {
	var total float64
	for _, part := range s.parts() {
		n, err := part.Program.FLOPs()
		if err != nil {
			return 0, err
		}
		total += float64(part.Runs) * n
	}
	return total, nil
}

// compileTime is that of the program that took longest: they are compiled at the same time. Or it is what loading took.
func (s *stepper) compileTime() (longest time.Duration) {
	for _, part := range s.parts() {
		longest = max(longest, part.Program.CompileTime)
	}
	return longest
}

// loaded says that no program of the step was compiled by this process.
func (s *stepper) loaded() bool {
	for _, part := range s.parts() {
		if !part.Program.FromCache {
			return false
		}
	}
	return true
}

// parts are the programs of a step, in their order.
func (s *stepper) parts() (parts []Part) {
	if s.ahead != nil {
		parts = append(parts, Part{"encoding of an image", s.ahead.Program, s.accumulation * s.aheadRuns()})
	}
	if s.gradients != nil {
		parts = append(parts, Part{"gradients of a batch", s.gradients.Program, s.accumulation})
	}
	return append(parts, Part{"step", s.program.Program, 1})
}

// snapshot copies the state to the host. The values hold until the next snapshot, which is put in their place: memory for one is as much
// as the run should need.
func (s *stepper) snapshot() (nn.Values, error) {
	if s.host == nil {
		s.host = nn.Values{}
		for _, v := range s.layout {
			s.host[v.name()] = make([]float32, v.spec.Size())
		}
	}
	if err := s.ensureState(); err != nil {
		return nil, err
	}
	for _, v := range s.layout {
		if err := getFloats(s.state[v.name()], s.host[v.name()]); err != nil {
			return nil, fmt.Errorf("%s: %w", v.name(), err)
		}
	}
	return s.host, nil
}

// measured are the numbers that a step gives back.
type measured struct {
	loss, gradNorm float32 // the norm before clipping
}

func (m measured) finite() bool { return finite(m.loss) && finite(m.gradNorm) }

func finite(x float32) bool { return x-x == 0 }

// run makes optimizer step n, counted from 1. next puts the step's batches on the devices, one after another; they are freed. Where
// the loss or the gradients are no finite numbers, the state is as it was and the error is a notFinite.
func (s *stepper) run(ctx context.Context, n int, r rates, next func() (program.Arrays, error)) (m measured, err error) {
	step, err := xla.Put(s.backend, []uint64{uint64(n)}, xla.Replicated)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, step.Free()) }()
	if s.gradients != nil && s.slots != nil {
		go s.slots()
		defer func() { err = errors.Join(err, s.ensureState()) }()
	}
	for i := range s.accumulation {
		fed, err := next()
		if err != nil {
			return m, err
		}
		batch, err := s.Encode(fed)
		if err != nil {
			return m, errors.Join(err, fed.Free())
		}
		if s.gradients != nil {
			m.loss, err = s.accumulate(batch, i, step)
			batch = s.sums
		}
		if err == nil && s.accumulation == 1 {
			m, err = s.finish(batch, n, r, step)
		}
		if s.accumulation == 1 {
			err = errors.Join(err, s.sums.Free())
			s.sums = nil
		}
		if err == nil && !m.finite() {
			err = s.diagnose(ctx, m, fed, n, i, step)
		}
		if err := errors.Join(err, fed.Free()); err != nil {
			return m, err
		}
	}
	if s.accumulation > 1 {
		if m, err = s.finish(s.sums, n, r, step); err == nil && !m.finite() {
			err = s.badSum(m, n)
		}
	}
	return m, err
}

// Encode makes a batch of what the feed gave, which stays. The batch holds until the next one is made.
func (s *stepper) Encode(fed program.Arrays) (batch program.Arrays, err error) {
	if s.ahead == nil {
		return fed, nil
	}
	name := s.objective.Ahead.Input.Name
	for i := range s.aheadRuns() {
		row, err := xla.Put(s.backend, []int32{int32(i)}, xla.Replicated)
		if err != nil {
			return nil, err
		}
		_, err = s.ahead.Run(s.encoded, program.Arrays{name: fed[name], inputRow: row}, s.frozen)
		if err := errors.Join(err, row.Free()); err != nil {
			return nil, err
		}
	}
	batch = fed.With(s.encoded)
	delete(batch, name)
	return batch, nil
}

// aheadRuns is how many rows of a batch each device encodes, one after another.
func (s *stepper) aheadRuns() int { return s.objective.Batch[0].Shape.Dim(0) / s.backend.Devices() }

// accumulate adds the gradients of the step's batch i to the sums.
func (s *stepper) accumulate(batch program.Arrays, i int, step *xla.Array) (loss float32, err error) {
	number, err := xla.Put(s.backend, []uint32{uint32(i)}, xla.Replicated)
	if err != nil {
		return 0, err
	}
	inputs := batch.With(program.Arrays{inputBatch: number, inputSeed: s.seed, inputStep: step})
	out, err := s.gradients.Run(s.sums, inputs, s.state, s.frozen)
	if err != nil {
		return 0, err
	}
	result := out[outputLoss]
	if delete(out, outputLoss); s.accumulation == 1 {
		s.sums = out
	}
	loss, err = program.GetScalar(result)
	return loss, errors.Join(err, result.Free(), number.Free())
}

// finish makes the step from a batch, or from the sums.
func (s *stepper) finish(from program.Arrays, n int, r rates, step *xla.Array) (m measured, err error) {
	vector := []float32{float32(r.emaDecay)}
	for _, rate := range s.method.Rates(r.learningRate, n) {
		vector = append(vector, float32(rate))
	}
	now, err := xla.Put(s.backend, vector, xla.Replicated, len(vector))
	if err != nil {
		return m, err
	}
	if err := s.ensureState(); err != nil {
		return m, err
	}
	inputs := from.With(program.Arrays{inputRates: now, inputSeed: s.seed, inputStep: step})
	out, err := s.program.Run(s.state, inputs, s.frozen)
	if err != nil {
		return m, err
	}
	var first, second error
	m.loss, first = program.GetScalar(out[outputLoss])
	m.gradNorm, second = program.GetScalar(out[outputGradNorm])
	return m, errors.Join(first, second, out.Free(), now.Free())
}
