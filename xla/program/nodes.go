package program

import (
	"fmt"
	"slices"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/xla"
)

// Nodes are nodes of a graph by name.
type Nodes map[string]*Node

// Get is the node of a name. It panics where there is none.
func (n Nodes) Get(name string) *Node {
	node := n[name]
	if node == nil {
		panic(fmt.Errorf("no input is named %s", name))
	}
	return node
}

// Of are the nodes of a tree's parameters, in its order. It panics where one is missing.
func (n Nodes) Of(tree nn.Tree) []*Node {
	nodes := make([]*Node, len(tree))
	for i, spec := range tree {
		nodes[i] = n.Get(spec.Key)
	}
	return nodes
}

// exactly lists the nodes of names. It panics where one is missing, and where there are others. what says what they
// are.
func (n Nodes) exactly(what string, names []string) []*Node {
	nodes := make([]*Node, len(names))
	for i, name := range names {
		if nodes[i] = n[name]; nodes[i] == nil {
			panic(fmt.Errorf("%s %s was not built", what, name))
		}
	}
	for name := range n {
		if len(n) > len(names) && !slices.Contains(names, name) {
			panic(fmt.Errorf("%s %s was built, but is not described", what, name))
		}
	}
	return nodes
}

// Bind gives the parameters of a tree their nodes, in its order, in a graph that b compiles.
func Bind(b *xla.Backend, tree nn.Tree, nodes []*Node) nn.Params {
	return nn.Bind(tree, nodes).WithKernels(nn.Kernels{Attention: b.AttentionKernel()})
}

// BindForward is Bind where no gradient is asked for, which more kernels can do.
func BindForward(b *xla.Backend, tree nn.Tree, in Nodes) nn.Params {
	return nn.Bind(tree, in.Of(tree)).WithKernels(nn.Kernels(b.Forward()))
}
