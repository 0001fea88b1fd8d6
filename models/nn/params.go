// Package nn holds the layers that the networks share, and the explicit parameter tree they read.
package nn

import (
	"fmt"
	"strconv"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// Params is a position in a network's parameter tree while its graph is being built. In extends the
// position by a part of diffusers' dotted key; the layers ask it for their weights.
type Params struct {
	prefix string
	source *source
}

// source answers for all positions of one network.
type source struct {
	nodes    map[string]*Node // bound parameters
	declare  *declaration     // nil once the parameters are bound
	probe    func(path string, x *Node)
	adapters map[string][]Adapter // by layer
	outputs  map[string]*Node     // by layer; see WithOutputs

	kernels       Kernels
	checkpointing *dependence      // see Block; nil: none
	note          func(node *Node) // is called with each parameter that is asked for; may be nil
}

type declaration struct {
	graph *Graph
	tree  Tree
}

// Bind gives the parameters of tree the nodes of a graph, in the tree's order. It panics if their numbers or shapes
// differ.
func Bind(tree Tree, nodes []*Node) Params {
	if len(tree) != len(nodes) {
		panic(fmt.Errorf("bind %d parameters to %d nodes", len(tree), len(nodes)))
	}
	bound := make(map[string]*Node, len(tree))
	for i, spec := range tree {
		nodes[i].AssertDims(spec.Shape...)
		bound[spec.Key] = nodes[i]
	}
	return Params{source: &source{nodes: bound}}
}

// Join puts the parameters of several bound trees together, at the root, with the probe, kernels and checkpointing that
// one of them has. The first part that has a key gives its node.
func Join(parts ...Params) Params {
	joined := source{nodes: map[string]*Node{}}
	for _, part := range parts {
		for key, node := range part.source.nodes {
			if _, ok := joined.nodes[key]; !ok {
				joined.nodes[key] = node
			}
		}
		if joined.probe == nil {
			joined.probe = part.source.probe
		}
		if joined.kernels.none() {
			joined.kernels = part.source.kernels
		}
		if joined.checkpointing == nil {
			joined.checkpointing = part.source.checkpointing
		}
	}
	return Params{source: &joined}
}

// WithProbe returns p with f called on the output of every layer and block below it,
// with the module path that diffusers gives it.
func (p Params) WithProbe(f func(path string, x *Node)) Params {
	s := *p.source
	s.probe = f
	return Params{prefix: p.prefix, source: &s}
}

// Kernels compute layers in other ways than by the graph's operations. Each may be nil, and returns nil for shapes and
// dtypes that it does not take.
type Kernels struct {
	// Attention is multi-head attention as in ScaledDotProduct, without a mask.
	Attention func(q, k, v *Node, heads int) *Node
	// Convolution convolves x [batch, rows, columns, in] with w [size, size, in, out], both axes padded by zeros
	// (before, after), and adds a bias [out], which may be nil.
	Convolution func(x, w, bias *Node, stride int, padding [2]int) *Node
	// Normalization normalises x [batch, ..., channels] over each group of neighbouring channels, multiplies by scale
	// and adds shift [channels]; with silu the result is SiLU of that.
	Normalization func(x, scale, shift *Node, groups int, epsilon float64, silu bool) *Node
}

func (k Kernels) none() bool {
	return k.Attention == nil && k.Convolution == nil && k.Normalization == nil
}

// WithKernels returns p with the layers below it computed by kernels where those take the shapes.
func (p Params) WithKernels(kernels Kernels) Params {
	s := *p.source
	s.kernels = kernels
	return Params{prefix: p.prefix, source: &s}
}

// WithOutputs returns p with the outputs of some layers given, by their paths from the root of the tree. Only
// LinearNoBias reads them: it then computes nothing and needs no x.
func (p Params) WithOutputs(outputs map[string]*Node) Params {
	s := *p.source
	s.outputs = outputs
	return Params{prefix: p.prefix, source: &s}
}

// In returns the position name below p.
func (p Params) In(name string) Params {
	if p.prefix != "" {
		name = p.prefix + "." + name
	}
	return Params{prefix: name, source: p.source}
}

// At returns the position name.index below p.
func (p Params) At(name string, index int) Params {
	return p.In(name + "." + strconv.Itoa(index))
}

// Out passes x through, showing it to the probe as the output of the module at p.
func (p Params) Out(x *Node) *Node {
	if p.source.probe != nil {
		p.source.probe(p.prefix, x)
	}
	return x
}

// Has says whether the parameter name at p is bound.
func (p Params) Has(name string) bool { return p.source.nodes[p.In(name).prefix] != nil }

// Get returns the parameter of a specification, whose key is below p.
func (p Params) Get(s Spec) *Node { return p.Param(s.Key, s.Kind, s.Init, s.FanIn, s.Shape...) }

// Param returns the parameter name at p. While declaring it records the specification;
// otherwise it panics if the tree has no such key or another shape.
func (p Params) Param(name string, kind Kind, init Init, fanIn int, shape ...int) *Node {
	key := p.In(name).prefix
	if node, ok := p.source.nodes[key]; ok {
		node.AssertDims(shape...)
		if p.source.note != nil {
			p.source.note(node)
		}
		return node
	}
	d := p.source.declare
	if d == nil {
		panic(fmt.Errorf("no parameter %s in the tree", key))
	}
	d.tree = append(d.tree, Spec{Key: key, Shape: shape, Kind: kind, Init: init, FanIn: fanIn})
	node := Parameter(d.graph, key, shapes.Make(dtypes.Float32, shape...))
	p.source.nodes[key] = node
	return node
}
