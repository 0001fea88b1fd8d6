package xla_test

import (
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla"
)

// TestPlan compiles for four chips of a TPU that is not there.
func TestPlan(t *testing.T) {
	topology, err := xla.FindTopology("v4-8")
	if err != nil {
		t.Fatal(err)
	}
	b, err := xla.OpenPlan(t.Context(), topology, xla.EffortQuick, xla.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p, err := b.Compile(t.Context(), xla.Function{
		Name: "square", State: []xla.Value{{Name: "x", Shape: shapes.Make(dtypes.Float32, 1024, 1024), Sharding: xla.Batch}},
		Build: func(_ *Graph, state, _ []*Node) (next, outputs []*Node) {
			return []*Node{DotGeneral(state[0], []int{1}, nil, state[0], []int{0}, nil)}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(p.Memory())
	c, err := p.Planned().Cost()
	t.Log(c, err)
	_, f, err := p.Planned().OptimizedProgram()
	t.Log(f, err)
	ser, err := p.Planned().Serialize()
	t.Log(len(ser), err)
}

func TestTopologies(t *testing.T) {
	for _, topology := range xla.Topologies() {
		b, err := xla.OpenPlan(t.Context(), topology, xla.EffortQuick, xla.Options{})
		t.Log(topology.Name, err)
		if err == nil {
			b.Close()
		}
	}
}
