// Package program compiles functions whose arrays go by name, and keeps trees of parameters on the devices.
package program

import (
	"context"
	"fmt"
	"maps"
	"slices"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/xla"
)

// Function is what a program computes. No two names of State and Inputs are the same. The order of State, Inputs and
// Outputs is that of the program's text, and with it part of what a compiled program is kept under.
type Function struct {
	Name   string
	State  []xla.Value // read and replaced by each run, in place
	Inputs []xla.Value // read only: parameters, batches, rates
	// Outputs are named and placed here; a shape that is left out is whatever Build makes. nil stands for those of
	// Build in the order of their names, each whole on every device.
	Outputs []xla.Value
	// Build adds the nodes to the graph of in, the state and the inputs. next has one node for each state, of the same
	// shape. It panics as building a graph does.
	Build    func(in Nodes) (next, outputs Nodes)
	Apart    bool                                       // as in xla.Function
	Announce func(loading bool, compiling xla.Expected) // as in xla.Function; may be nil
}

// Program is a compiled function. It may be run from one goroutine at a time.
type Program struct {
	*xla.Program
	name          string
	state, inputs []string
	outputs       []string
}

// Compile builds and compiles a function, as xla.Backend.Compile does.
func Compile(ctx context.Context, b *xla.Backend, f Function) (*Program, error) {
	p := &Program{name: f.Name, state: names(f.State), inputs: names(f.Inputs), outputs: names(f.Outputs)}
	if err := p.checkNames(); err != nil {
		return nil, fmt.Errorf("compile %s: %w", f.Name, err)
	}
	ordered := xla.Function{Name: f.Name, State: f.State, Inputs: f.Inputs, Apart: f.Apart, Announce: f.Announce}
	for _, v := range f.Outputs {
		ordered.Outputs = append(ordered.Outputs, v.Sharding)
	}
	ordered.Build = func(_ *Graph, state, inputs []*Node) (_, _ []*Node) {
		in := Nodes{}
		for i, name := range p.state {
			in[name] = state[i]
		}
		for i, name := range p.inputs {
			in[name] = inputs[i]
		}
		next, outputs := f.Build(in)
		if f.Outputs == nil {
			p.outputs = slices.Sorted(maps.Keys(outputs))
		}
		return next.exactly("state", p.state), outputs.exactly("output", p.outputs)
	}
	var err error
	if p.Program, err = b.Compile(ctx, ordered); err != nil {
		return nil, err
	}
	return p, nil
}

// Run runs the program. state holds its state and nothing else: each array of it is replaced by its next value. The
// inputs are those of inputs, all of which it must have, and from what the others hold, which may be more: such as the
// parameters of networks that it shares with other programs. What a run gives back is the caller's to free. After an
// error the state may be lost.
func (p *Program) Run(state, inputs Arrays, from ...Arrays) (Arrays, error) {
	states, err := p.find("state", p.state, state, nil)
	if err != nil {
		return nil, err
	}
	read, err := p.find("input", p.inputs, inputs, from)
	if err != nil {
		return nil, err
	}
	results, err := p.Program.Run(states, read...)
	if err != nil {
		return nil, err
	}
	outputs := make(Arrays, len(results))
	for i, a := range results {
		outputs[p.outputs[i]] = a
	}
	return outputs, nil
}

// find lists the arrays of names, all of exact among them. what says what they are in errors.
func (p *Program) find(what string, names []string, exact Arrays, from []Arrays) ([]*xla.Array, error) {
	found, taken := make([]*xla.Array, len(names)), 0
	for i, name := range names {
		if found[i] = exact[name]; found[i] != nil {
			taken++
		}
		for k := 0; k < len(from) && found[i] == nil; k++ {
			found[i] = from[k][name]
		}
		if found[i] == nil {
			return nil, fmt.Errorf("run %s: %s %s was not given", p.name, what, name)
		}
	}
	if taken == len(exact) {
		return found, nil
	}
	for _, name := range slices.Sorted(maps.Keys(exact)) {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("run %s: it has no %s %s", p.name, what, name)
		}
	}
	return found, nil // the others are nil in exact, and another set has them
}

// checkNames fails where a name stands for two arrays.
func (p *Program) checkNames() error {
	for _, all := range [][]string{slices.Concat(p.state, p.inputs), p.outputs} {
		seen := make(map[string]bool, len(all))
		for _, name := range all {
			if seen[name] {
				return fmt.Errorf("two arrays are named %s", name)
			}
			seen[name] = true
		}
	}
	return nil
}

func names(values []xla.Value) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.Name
	}
	return out
}
