package xla_test

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla"
)

func Example() {
	ctx := context.Background()
	b, err := xla.Open(ctx, xla.Options{})
	if err != nil {
		panic(err)
	}
	defer b.Close()
	p, err := b.Compile(ctx, xla.Function{
		Name:  "fibonacci",
		State: []xla.Value{{Name: "pair", Shape: shapes.Make(dtypes.Float32, 2)}},
		Build: func(_ *Graph, state, _ []*Node) (next, outputs []*Node) {
			a, b := Slice(state[0], AxisRange(0, 1)), Slice(state[0], AxisRange(1))
			return []*Node{Concatenate([]*Node{b, Add(a, b)}, 0)}, nil
		},
	})
	if err != nil {
		panic(err)
	}
	pair, err := xla.Put(b, []float32{0, 1}, xla.Replicated, 2)
	if err != nil {
		panic(err)
	}
	for range 10 {
		if _, err := p.Run([]*xla.Array{pair}); err != nil {
			panic(err)
		}
	}
	fmt.Println(xla.Get[float32](pair))
	// Output: [55 89] <nil>
}
