package train

import (
	"context"
	"errors"
	"fmt"
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
	layout    []stateValue // of state
	program   *xla.Program // makes the step, from a batch or from the sums
	gradients *xla.Program // adds a batch's to the sums; nil where the step is one program
	ahead     *xla.Program // makes a batch of what the feed gives; nil: the feed gives it
	state     []*xla.Array
	slots     func() error // makes the optimizer's part of a new state, once; nil: it is there
	sums      []*xla.Array // of gradients in the tree's order, and of losses; of a step of one batch only while it is made
	frozen    []*xla.Array
	encoder   []*xla.Array // the parameters of ahead
	encoded   *xla.Array   // what ahead makes of a batch, in place; nil without ahead
	seed      *xla.Array
	host      nn.Values // the last snapshot
}

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
	f := xla.Function{Name: "ahead_of_" + s.objective.Name, Apart: true, State: s.objective.Batch[:1]}
	f.Inputs = append(s.frozenValues(a.Frozen), a.Input, scalarValue("row", dtypes.Int32))
	f.Build = func(_ *Graph, state, in []*Node) (next, outputs []*Node) {
		n := len(a.Frozen)
		at := func(x *Node) []*Node {
			return append([]*Node{in[n+1]}, slices.Repeat([]*Node{ZerosLike(in[n+1])}, x.Rank()-1)...)
		}
		row := DynamicSlice(in[n], at(in[n]), append([]int{1}, in[n].Shape().Dimensions[1:]...))
		return []*Node{DynamicUpdateSlice(state[0], a.Build(bindForward(s.backend, a.Frozen, in[:n]), row), at(state[0]))}, nil
	}
	s.ahead, err = s.backend.Compile(ctx, f)
	return err
}

// compileGradients compiles the program of the networks, where that is not the step's.
func (s *stepper) compileGradients(ctx context.Context) (err error) {
	if !s.inTwo {
		return nil
	}
	o := s.objective
	f := xla.Function{Name: "gradients_" + o.Name, Build: s.buildGradients, Announce: s.announce}
	if sums := s.sumValues(); s.accumulation > 1 {
		f.State = sums
	} else {
		for _, v := range sums {
			f.Outputs = append(f.Outputs, v.Sharding)
		}
		f.Outputs = append(f.Outputs, xla.Replicated)
	}
	f.Inputs = append(append(s.stateValues()[:len(o.Trainable)], s.batchValues()...), scalarValue("batch", dtypes.Uint32))
	f.Inputs = append(f.Inputs, s.drawValues()...)
	s.gradients, err = s.backend.Compile(ctx, f)
	return err
}

// compileStep compiles the program that makes the step.
func (s *stepper) compileStep(ctx context.Context) (err error) {
	o := s.objective
	f := xla.Function{Name: "train_" + o.Name, Build: s.buildStep, State: s.stateValues(), Inputs: s.batchValues(), Announce: s.announce}
	if s.inTwo {
		f.Name, f.Build, f.Inputs, f.Announce = "apply_"+o.Name, s.buildApply, s.sumValues(), nil
	}
	f.Inputs = append(f.Inputs, xla.Value{Name: "rates", Shape: shapes.Make(dtypes.Float32, 1+len(s.method.Rates(1, 1)))})
	f.Inputs = append(f.Inputs, s.drawValues()...)
	s.program, err = s.backend.Compile(ctx, f)
	return err
}

// plant puts the seed of random draws on the devices.
func (s *stepper) plant(seed uint64) (err error) {
	s.seed, err = xla.Put(s.backend, []uint64{seed}, xla.Replicated)
	return err
}

func scalarValue(name string, dtype dtypes.DType) xla.Value {
	return xla.Value{Name: name, Shape: shapes.Make(dtype)}
}

// drawValues are what random numbers follow from.
func (s *stepper) drawValues() []xla.Value {
	return []xla.Value{scalarValue("seed", dtypes.Uint64), scalarValue("step", dtypes.Uint64)}
}

// sharding is how a state array lies on the devices. What follows from parameters is divided over them, which costs no more
// traffic than summing whole gradients (ZeRO-1, Rajbhandari et al. 2020, arXiv:1910.02054), and with fsdp the parameters too.
func (s *stepper) sharding(v stateValue) xla.Sharding {
	if v.group == "param" && !s.fsdp {
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
		v := stateValue{"sum", spec, dtypes.Float32}
		values = append(values, v.value(s.sharding(v)))
	}
	return append(values, scalarValue("sum.loss", dtypes.Float32))
}

// frozenValues are those of parameters that are only read.
func (s *stepper) frozenValues(tree nn.Tree) []xla.Value {
	values := make([]xla.Value, len(tree))
	for i, spec := range tree {
		values[i] = xla.Value{Name: spec.Key, Shape: shapes.Make(s.objective.Compute, spec.Shape...)}
	}
	return values
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
	s.state, s.slots, s.sums, s.frozen, s.encoder, s.encoded = described.state, described.slots, described.sums, described.frozen, described.encoder, described.encoded
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
	tree, n := s.objective.FrozenTree(), len(s.objective.Frozen)
	arrays := make([]*xla.Array, len(tree))
	s.frozen, s.encoder = arrays[:n:n], arrays[n:]
	return putAll(s.backend, weights, tree, s.frozenValues(tree), func(i int, a *xla.Array) { arrays[i] = a })
}

// loadZeros puts on the devices what each step begins with.
func (s *stepper) loadZeros() (err error) {
	if s.accumulation > 1 {
		for _, v := range s.sumValues() {
			a, err := zeros(s.backend, v)
			if err != nil {
				return err
			}
			s.sums = append(s.sums, a)
		}
	}
	if s.objective.Ahead != nil {
		s.encoded, err = zeros(s.backend, s.objective.Batch[0])
	}
	return err
}

// putAll puts the parameters of a tree on the devices, each as its value of values says, and gives them to keep.
func putAll(b *xla.Backend, weights nn.Source, tree nn.Tree, values []xla.Value, keep func(i int, a *xla.Array)) error {
	if len(tree) == 0 {
		return nil
	}
	places := map[string]int{}
	for i, spec := range tree {
		places[spec.Key] = i
	}
	return weights.Stream(tree, nn.FileDType(values[0].Shape.DType), func(spec nn.Spec, write func(to []byte) error) error {
		i := places[spec.Key]
		a, err := xla.Fill(b, values[i].Shape, values[i].Sharding, write)
		if err != nil {
			return fmt.Errorf("%s: %w", spec.Key, err)
		}
		keep(i, a)
		return nil
	})
}

// begin gives the devices a state: one that was saved, or where it is nil that of the start: averages equal to the parameters, and slots of
// zeros, which are made while the first gradients are. Arrays that are there stay, with other contents.
func (s *stepper) begin(ctx context.Context, weights nn.Source, state *folder.Checkpoint) error {
	s.slots = nil
	if state != nil {
		return s.restore(ctx, state)
	}
	if err := xla.FreeAll(s.state); err != nil {
		return err
	}
	n, values := len(s.objective.Trainable), s.stateValues()
	first := n // of the slots
	if s.ema {
		first = 2 * n
		if err := putAll(s.backend, weights, s.objective.Trainable, values[n:first], func(i int, a *xla.Array) { s.keep(n+i, a) }); err != nil {
			return err
		}
	}
	if err := putAll(s.backend, weights, s.objective.Trainable, values[:n], s.keep); err != nil {
		return err
	}
	s.slots = sync.OnceValue(func() error {
		for i, v := range values[first:] {
			a, err := zeros(s.backend, v)
			if err != nil {
				return err
			}
			s.keep(first+i, a)
		}
		return nil
	})
	return nil
}

// whole sees to it that all of the state is there.
func (s *stepper) whole() error {
	if s.slots == nil {
		return nil
	}
	return s.slots()
}

// restore gives the devices a state that was saved.
func (s *stepper) restore(ctx context.Context, state *folder.Checkpoint) error {
	if err := xla.FreeAll(s.state); err != nil {
		return err
	}
	values, places := s.stateValues(), map[string]int{}
	for i, v := range s.layout {
		places[v.name()] = i
	}
	return state.Each(func(key string, data []float32) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		i := places[key]
		a, err := put(s.backend, values[i], data)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		s.keep(i, a)
		return nil
	})
}

// keep makes an array that of a place in the state.
func (s *stepper) keep(i int, a *xla.Array) {
	if s.state == nil {
		s.state = make([]*xla.Array, len(s.layout))
	}
	if s.state[i] == nil {
		s.state[i] = a
	} else {
		*s.state[i] = *a
	}
}

// Resident are the parameters on the devices by their keys, the averages in the place of those that are trained where there are any.
func (s *stepper) Resident() map[string]*xla.Array {
	arrays := map[string]*xla.Array{}
	for i, a := range s.Parameters() {
		if n := len(s.objective.Trainable); i < n {
			arrays[s.objective.Trainable[i].Key] = a
		} else {
			arrays[s.objective.Frozen[i-n].Key] = a
		}
	}
	return arrays
}

// Parameters are the trainable ones, or their averages, and then the frozen ones, each in its tree's order. Training replaces what the
// arrays hold.
func (s *stepper) Parameters() []*xla.Array {
	n := len(s.objective.Trainable)
	trained := s.state[:n]
	if s.ema {
		trained = s.state[n : 2*n]
	}
	return slices.Concat(trained, s.frozen)
}

// free releases everything that the step holds on the devices.
func (s *stepper) free() error {
	arrays := slices.Concat(s.state, s.sums, s.frozen, s.encoder)
	return xla.FreeAll(append(arrays, s.encoded, s.seed))
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
		parts = append(parts, Part{"encoding of an image", s.ahead, s.accumulation * s.aheadRuns()})
	}
	if s.gradients != nil {
		parts = append(parts, Part{"gradients of a batch", s.gradients, s.accumulation})
	}
	return append(parts, Part{"step", s.program, 1})
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
	if err := s.whole(); err != nil {
		return nil, err
	}
	for i, v := range s.layout {
		if err := getFloats(s.state[i], s.host[v.name()]); err != nil {
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
func (s *stepper) run(ctx context.Context, n int, r rates, next func() ([]*xla.Array, error)) (m measured, err error) {
	step, err := xla.Put(s.backend, []uint64{uint64(n)}, xla.Replicated)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, step.Free()) }()
	if s.gradients != nil {
		var slots errgroup.Group
		slots.Go(s.whole)
		defer slots.Wait() // its error is finish's too
	}
	for i := range s.accumulation {
		fed, err := next()
		if err != nil {
			return m, err
		}
		batch, err := s.Encode(fed)
		if err != nil {
			return m, errors.Join(err, xla.FreeAll(fed))
		}
		inputs := slices.Concat(s.frozen, batch)
		if s.gradients != nil {
			m.loss, err = s.accumulate(inputs, i, step)
			inputs = s.sums
		}
		if err == nil && s.accumulation == 1 {
			m, err = s.finish(inputs, n, r, step)
		}
		if s.accumulation == 1 {
			err = errors.Join(err, xla.FreeAll(s.sums))
			s.sums = nil
		}
		if err == nil && !m.finite() {
			err = s.diagnose(ctx, m, fed, n, i, step)
		}
		if err := errors.Join(err, xla.FreeAll(fed)); err != nil {
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
func (s *stepper) Encode(fed []*xla.Array) (batch []*xla.Array, err error) {
	if s.ahead == nil {
		return fed, nil
	}
	for i := range s.aheadRuns() {
		row, err := xla.Put(s.backend, []int32{int32(i)}, xla.Replicated)
		if err != nil {
			return nil, err
		}
		_, err = s.ahead.Run([]*xla.Array{s.encoded}, append(slices.Clone(s.encoder), fed[0], row)...)
		if err := errors.Join(err, row.Free()); err != nil {
			return nil, err
		}
	}
	return append([]*xla.Array{s.encoded}, fed[1:]...), nil
}

// aheadRuns is how many rows of a batch each device encodes, one after another.
func (s *stepper) aheadRuns() int { return s.objective.Batch[0].Shape.Dim(0) / s.backend.Devices() }

// accumulate adds the gradients of the step's batch i to the sums. inputs are the frozen parameters and the batch.
func (s *stepper) accumulate(inputs []*xla.Array, i int, step *xla.Array) (loss float32, err error) {
	number, err := xla.Put(s.backend, []uint32{uint32(i)}, xla.Replicated)
	if err != nil {
		return 0, err
	}
	out, err := s.gradients.Run(s.sums, slices.Concat(s.state[:len(s.objective.Trainable)], inputs, []*xla.Array{number, s.seed, step})...)
	if err != nil {
		return 0, err
	}
	last := len(out) - 1
	if s.accumulation == 1 {
		s.sums = out[:last]
	}
	x, err := xla.Get[float32](out[last])
	if err := errors.Join(err, out[last].Free(), number.Free()); err != nil {
		return 0, err
	}
	return x[0], nil
}

// finish makes the step from inputs: the frozen parameters and a batch, or the sums.
func (s *stepper) finish(inputs []*xla.Array, n int, r rates, step *xla.Array) (m measured, err error) {
	vector := []float32{float32(r.emaDecay)}
	for _, rate := range s.method.Rates(r.learningRate, n) {
		vector = append(vector, float32(rate))
	}
	now, err := xla.Put(s.backend, vector, xla.Replicated, len(vector))
	if err != nil {
		return m, err
	}
	if err := s.whole(); err != nil {
		return m, err
	}
	out, err := s.program.Run(s.state, slices.Concat(inputs, []*xla.Array{now, s.seed, step})...)
	if err != nil {
		return m, err
	}
	var results [2]float32
	for i, a := range out {
		x, err := xla.Get[float32](a)
		if err != nil {
			return m, err
		}
		results[i] = x[0]
	}
	m = measured{loss: results[0], gradNorm: results[1]}
	return m, xla.FreeAll(append(out, now))
}
