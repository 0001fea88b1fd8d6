package nn_test

import (
	"fmt"
	"testing"

	"github.com/gomlx/gomlx/backends/simplego"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
)

// Checkpointing builds the gradients of what is trained alone: those of frozen parameters would be thrown away by the
// compiler, late.
func TestCheckpointingOfFrozen(t *testing.T) {
	const layers = 8
	tree := nn.Tree{{Key: "x"}}
	for i := range layers {
		tree = append(tree, nn.Spec{Key: fmt.Sprintf("layer.%d.weight", i)})
	}
	built := func(trained ...int) (cosines int) {
		backend, err := simplego.New("")
		if err != nil {
			t.Fatal(err)
		}
		defer backend.Finalize()
		g := NewGraph(backend, "checkpointing")
		var nodes, wrt []*Node
		for _, spec := range tree {
			nodes = append(nodes, Parameter(g, spec.Key, shapes.Make(dtypes.Float32, spec.Shape...)))
		}
		for _, i := range trained {
			wrt = append(wrt, nodes[1+i])
		}
		p := nn.Bind(tree, nodes).WithCheckpointing(wrt...)
		y := p.Block(func(p nn.Params, x ...*Node) *Node {
			sum := x[0]
			for i := range layers {
				w := p.At("layer", i).Param("weight", nn.Vector, nn.InitZeros, 0)
				sum = Add(sum, Sin(w))
			}
			return sum
		}, nodes[0])
		Gradient(ReduceAllSum(y), wrt...)
		for _, node := range g.Nodes() {
			if node.Type() == NodeTypeCos {
				cosines++
			}
		}
		return cosines
	}
	if one, all := built(3), built(0, 1, 2, 3, 4, 5, 6, 7); one != 1 || all != layers {
		t.Errorf("%d gradients for one layer of %d, %d for all", one, layers, all)
	}
}
