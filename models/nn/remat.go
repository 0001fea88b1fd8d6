package nn

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// WithCheckpointing returns p with gradient checkpointing (Chen et al. 2016, arXiv:1604.06174) of the blocks below it:
// of what a block computes only its output is kept for the gradient, and the rest is computed again. Gradients may be
// taken only with respect to trained nodes, or to nodes that depend on them.
func (p Params) WithCheckpointing(trained ...*Node) Params {
	s := *p.source
	s.checkpointing = &dependence{follows: map[*Node]bool{}}
	for _, node := range trained {
		s.checkpointing.follows[node] = true
	}
	return Params{prefix: p.prefix, source: &s}
}

// dependence says which nodes of a graph depend on some of them.
type dependence struct{ follows map[*Node]bool }

func (d *dependence) of(node *Node) bool {
	known, ok := d.follows[node]
	if ok {
		return known
	}
	for _, input := range node.Inputs() {
		if d.of(input) {
			known = true
			break
		}
	}
	d.follows[node] = known
	return known
}

// Block runs a block's forward function on its inputs x, of which some may be nil. With checkpointing the gradient
// computes the block again; loss and gradients are the same numbers.
func (p Params) Block(forward func(p Params, x ...*Node) *Node, x ...*Node) *Node {
	if p.source.checkpointing == nil {
		return forward(p, x...)
	}
	b := &recomputed{params: p, forward: forward, x: x}
	for _, input := range x {
		if input != nil {
			b.inputs = append(b.inputs, input)
		}
	}
	y := forward(p.noting(&b.inputs), x...)
	// The gradients of frozen parameters, and of nodes that depend on them alone, are not needed: building them would
	// cost the compiler as much as those that are.
	b.wanted = make([]bool, len(b.inputs))
	for i, input := range b.inputs {
		b.wanted[i] = input.DType().IsFloat() && p.source.checkpointing.of(input)
	}
	// The graph's own gradient of the block is cut off. One element of each input, times 0, is added to the output
	// instead: through it the output's gradient leads to the gradients that recompute computes.
	zero := Scalar(y.Graph(), y.DType(), 0)
	for i, input := range b.inputs {
		if !b.wanted[i] {
			continue
		}
		input = IdentityWithCustomGradient(input, func(_, _ *Node) *Node { return b.gradients[i] })
		zero = Add(zero, MulScalar(ConvertDType(firstElement(input), y.DType()), 0))
	}
	return IdentityWithCustomGradient(Add(StopGradient(y), zero), func(_, v *Node) *Node {
		b.recompute(v)
		return v
	})
}

func firstElement(x *Node) *Node {
	at := make([]SliceAxisSpec, x.Rank())
	for axis := range at {
		at[axis] = AxisElem(0)
	}
	if len(at) == 0 {
		return x
	}
	return Reshape(Slice(x, at...))
}

// recomputed is a block whose gradient is computed from its inputs alone.
type recomputed struct {
	params    Params
	forward   func(p Params, x ...*Node) *Node
	x         []*Node
	inputs    []*Node // x and the parameters that the block asked for
	wanted    []bool  // whether an input's gradient is needed
	gradients []*Node // of the inputs where wanted
}

// recompute computes the gradients of the inputs from v, that of the output.
func (b *recomputed) recompute(v *Node) {
	// The first input is made to depend on v: otherwise XLA would reuse the results of the first computation.
	tie := MulScalar(ReduceAllSum(v), 0)
	copies := map[*Node]*Node{}
	var wrt []*Node
	for i, input := range b.inputs {
		c := Identity(input)
		if i == 0 {
			c = Add(input, ConvertDType(tie, input.DType()))
		}
		copies[input] = c
		if b.wanted[i] {
			wrt = append(wrt, c)
		}
	}
	x := make([]*Node, len(b.x))
	for i, input := range b.x {
		if input != nil {
			x[i] = copies[input]
		}
	}
	y := b.forward(b.params.replacing(copies), x...)
	found := Gradient(ReduceAllSum(Mul(y, StopGradient(v))), wrt...)
	b.gradients = make([]*Node, len(b.inputs))
	for i := range b.inputs {
		if b.wanted[i] {
			b.gradients[i], found = found[0], found[1:]
		}
	}
}

// noting returns p that appends every parameter and adapter's matrix that is asked for to nodes, once.
func (p Params) noting(nodes *[]*Node) Params {
	s := *p.source
	seen := map[*Node]bool{}
	s.note = func(node *Node) {
		if !seen[node] {
			seen[node] = true
			*nodes = append(*nodes, node)
		}
	}
	return Params{prefix: p.prefix, source: &s}
}

// replacing returns p with its nodes replaced by copies, without a probe.
func (p Params) replacing(copies map[*Node]*Node) Params {
	other := func(node *Node) *Node {
		if c, ok := copies[node]; ok {
			return c
		}
		return node
	}
	s := source{
		kernels: p.source.kernels, nodes: make(map[string]*Node, len(p.source.nodes)),
		adapters: make(map[string][]Adapter, len(p.source.adapters)),
	}
	for key, node := range p.source.nodes {
		s.nodes[key] = other(node)
	}
	for layer, adapters := range p.source.adapters {
		for _, a := range adapters {
			a.Down, a.Up, a.Scale = other(a.Down), other(a.Up), other(a.Scale)
			s.adapters[layer] = append(s.adapters[layer], a)
		}
	}
	return Params{prefix: p.prefix, source: &s}
}
