package xla

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gomlx/gomlx/pkg/core/distributed"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla/patch"
	"limner/xla/pjrt"
	"limner/xla/plugin"
)

// Value describes an input of a program.
type Value struct {
	Name     string
	Shape    shapes.Shape // of the whole, over all devices
	Sharding Sharding
	Class    Class // "" is a batch, or what else a run brings along
}

// Class is what an input is for, in figures of the memory that it takes.
type Class string

// The classes of what stays on the devices from run to run.
const (
	FrozenParameters  Class = "frozen parameters"
	TrainedParameters Class = "trained parameters"
	Averages          Class = "averages"
	GradientSums      Class = "sums of gradients"
	Moments           Class = "moments"
)

// Function is what a program computes.
type Function struct {
	Name   string
	State  []Value // read and replaced by each run, in place
	Inputs []Value // read only: frozen parameters, batches, rates
	// Build adds the nodes to the graph. next has one node for each state, of the same shape.
	Build func(g *graph.Graph, state, inputs []*graph.Node) (next, outputs []*graph.Node)
	// Outputs is how the outputs lie on the devices; nil means all are replicated.
	Outputs []Sharding
	// Apart has each device run the program by itself on its part of what is divided along the first axis: Build then
	// sees the part. It is for functions whose rows do not depend on each other. XLA's partitioner, which sees the
	// whole batch, may choose worse forms of convolutions.
	Apart bool
	// Announce hears, once the graph is built, whether the program is loaded, because it was compiled before, or
	// compiled now, and how long that may take. One that turns out not to load is compiled after all, and announced
	// again. It may be nil.
	Announce func(loading bool, compiling Expected)
}

// Program is a compiled function. It may be run from one goroutine at a time.
type Program struct {
	backend     *Backend
	name        string
	text        []byte           // StableHLO
	executable  *pjrt.Executable // what the compiler made of it
	loaded      *pjrt.Loaded     // nil of a planned program
	key         programKey       // of a planned program
	memory      pjrt.Memory
	states      int
	inputs      []Value // state first
	outputs     []shapes.Shape
	shardings   []Sharding    // of the outputs, state first
	apart       bool          // each device runs it by itself
	CompileTime time.Duration // or that of loading it
	FromCache   bool          // it was loaded: an earlier process compiled it
	Nodes       int           // of the graph
}

// Compile builds and compiles a function for all devices of the backend. A compiler cannot be interrupted: once ctx is
// done, Compile returns its error and leaves the compiler behind, with the backend's devices, until the process ends.
func (b *Backend) Compile(ctx context.Context, f Function) (*Program, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	start := time.Now()
	p := &Program{backend: b, name: f.Name, states: len(f.State), inputs: slices.Concat(f.State, f.Inputs)}
	if err := plugin.CheckAddresses("the compiler", plugin.CompilingAddresses); err != nil {
		return nil, fmt.Errorf("compile %s: %w", f.Name, err)
	}
	built, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- p.compile(f, built) }()
	if err := b.await(ctx, done, built); err != nil {
		return nil, fmt.Errorf("compile %s: %w", f.Name, err)
	}
	p.CompileTime = time.Since(start)
	return p, ctx.Err()
}

// await waits until a program is done, or until ctx is and the compiler has the program: building it reads what the
// caller owns.
func (b *Backend) await(ctx context.Context, done <-chan error, built <-chan struct{}) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-built:
		b.abandoned.Store(true)
		return ctx.Err()
	}
}

// compile builds the program, closes built, and has it compiled or loaded.
func (p *Program) compile(f Function, built chan<- struct{}) (err error) {
	if err := Try(func() { p.build(f) }); err != nil {
		return err
	}
	close(built)
	begin := f.Announce
	if begin == nil {
		begin = func(bool, Expected) {}
	}
	b, text, options := p.backend, patch.ManualKernels(p.text), p.backend.options(p.apart)
	if b.target != nil {
		if p.key, err = b.programKey(text, options); err != nil {
			return err
		}
		begin(false, 0)
		p.executable, err = b.target.compile(text, options, inputNames(p.inputs))
	} else if p.loaded, p.FromCache, err = b.compile(text, options, begin); err == nil {
		p.loaded.Portable = b.n == 1
		p.executable = p.loaded.Executable
	}
	if err != nil {
		return err
	}
	p.memory, err = p.executable.Memory()
	if err == nil && b.CPU() {
		bytes := p.memory.Temporaries + p.memory.Outputs - p.memory.Aliases // on each device
		err = plugin.CheckAddresses("running it", bytes*int64(len(b.local)))
	}
	if err != nil {
		return errors.Join(err, p.Close())
	}
	return nil
}

// build panics as GoMLX does.
func (p *Program) build(f Function) {
	b := p.backend
	g := graph.NewGraph(b.graphs, p.name)
	defer g.Finalize()
	p.apart = f.Apart && b.mesh != nil
	switch {
	case p.apart:
		check(g.SetSPMD(b.mesh))
	case b.mesh != nil:
		check(g.SetAutoSharding(b.mesh))
	}
	nodes := make([]*graph.Node, len(p.inputs))
	for i, in := range p.inputs {
		if p.apart {
			part, err := b.shardShape(in.Shape, in.Sharding)
			check(err)
			nodes[i] = graph.Parameter(g, in.Name, part)
			continue
		}
		spec, err := b.spec(in.Shape, in.Sharding)
		check(err)
		nodes[i] = graph.ShardedParameter(g, in.Name, in.Shape, spec)
	}
	next, outputs := f.Build(g, nodes[:p.states], nodes[p.states:])
	if len(next) != p.states {
		panic(fmt.Errorf("%d states in, %d out", p.states, len(next)))
	}
	for i, node := range next {
		if want := nodes[i].Shape(); !node.Shape().Equal(want) {
			panic(fmt.Errorf("state %s comes out as %s, want %s", f.State[i].Name, node.Shape(), want))
		}
		if node == nodes[i] {
			next[i] = graph.Identity(node)
		}
		p.shardings = append(p.shardings, f.State[i].Sharding)
	}
	for i := range outputs {
		sharding := Replicated
		if f.Outputs != nil {
			sharding = f.Outputs[i]
		}
		p.shardings = append(p.shardings, sharding)
	}
	all := slices.Concat(next, outputs)
	for i, node := range all {
		shape := node.Shape()
		if axis := p.shardings[i].axis(); p.apart && axis >= 0 {
			shape = shape.Clone()
			shape.Dimensions[axis] *= b.n
		}
		p.outputs = append(p.outputs, shape)
	}
	var specs []*distributed.ShardingSpec
	if !p.apart {
		specs = b.specs(p.outputs, p.shardings)
	}
	var err error
	p.text, err = patch.Program(g, all, specs, p.states)
	check(err)
	p.Nodes = len(g.Nodes())
}

// Once has XLA's CPU compiler compute each node once for all its uses. It would compute a cheap one anew in each, from
// what a state was before, and so copy the state first, which the first use replaces. Other compilers make one loop of
// such uses, which this would part: there the nodes stay as they are.
func (b *Backend) Once(nodes ...*graph.Node) []*graph.Node {
	if !b.CPU() {
		return nodes
	}
	return patch.Barrier(nodes...)
}

// check panics on an error, inside Try.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Memory is what the compiler says that the program needs of each device.
func (p *Program) Memory() pjrt.Memory { return p.memory }

// Inputs are the program's, state first.
func (p *Program) Inputs() []Value { return p.inputs }

// DeviceBytes is what one device holds of an input.
func (p *Program) DeviceBytes(v Value) int64 {
	bytes := int64(v.Shape.Memory())
	if v.Sharding != Replicated {
		bytes /= int64(p.backend.n)
	}
	return bytes
}

// Planned is what the compiler made of a program of a planning backend; nil of another.
func (p *Program) Planned() *pjrt.Executable {
	if p.loaded != nil {
		return nil
	}
	return p.executable
}

// Close frees the program. Nothing else may be asked of it afterwards.
func (p *Program) Close() error {
	if p.loaded != nil {
		return p.loaded.Close()
	}
	return p.executable.Close()
}

// StableHLO is the text that was compiled.
func (p *Program) StableHLO() string { return string(p.text) }

// Run runs the program. Each array of state is consumed and replaced by its next value; inputs stay.
// After an error the state may be lost.
func (p *Program) Run(state []*Array, inputs ...*Array) ([]*Array, error) {
	if p.loaded == nil {
		return nil, fmt.Errorf("run %s: it is only planned for %s", p.name, p.backend.kind)
	}
	if len(state)+len(inputs) != len(p.inputs) {
		return nil, fmt.Errorf("run %s: got %d states and %d inputs, want %d and %d",
			p.name, len(state), len(inputs), p.states, len(p.inputs)-p.states)
	}
	n := len(p.backend.local)
	buffers := make([]*pjrt.Buffer, 0, n*len(p.inputs))
	for device := range n {
		for i, want := range p.inputs {
			a := inputAt(state, inputs, i)
			if !a.shape.Equal(want.Shape) || a.sharding != want.Sharding {
				return nil, fmt.Errorf("run %s: input %s: got %s, want %s", p.name, want.Name, a.shape, want.Shape)
			}
			if a.shards == nil {
				return nil, fmt.Errorf("run %s: input %s was freed", p.name, want.Name)
			}
			buffers = append(buffers, a.shards[device])
		}
	}
	results, err := p.backend.run(p, buffers)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", p.name, err)
	}
	out := make([]*Array, len(p.outputs))
	for i := range out {
		out[i] = &Array{backend: p.backend, shape: p.outputs[i], sharding: p.shardings[i]}
		for device := range n {
			out[i].shards = append(out[i].shards, results[device*len(p.outputs)+i])
		}
	}
	for i, next := range out[:p.states] {
		*state[i] = *next
	}
	return out[p.states:], nil
}

// execute runs the program on the buffers of one device after another, and returns such.
func (p *Program) execute(buffers []*pjrt.Buffer) ([]*pjrt.Buffer, error) {
	return p.loaded.Execute(buffers, len(p.backend.local), p.states)
}

func inputAt(state, inputs []*Array, i int) *Array {
	if i < len(state) {
		return state[i]
	}
	return inputs[i-len(state)]
}

// specs are the shardings of the outputs in GoMLX's terms; nil with one device.
func (b *Backend) specs(shapes []shapes.Shape, shardings []Sharding) []*distributed.ShardingSpec {
	if b.mesh == nil {
		return nil
	}
	specs := make([]*distributed.ShardingSpec, len(shapes))
	for i := range specs {
		spec, err := b.spec(shapes[i], shardings[i])
		check(err)
		specs[i] = spec
	}
	return specs
}
