package xla

import (
	"context"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

func TestFLOPs(t *testing.T) {
	b, err := Open(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	program, err := b.Compile(context.Background(), Function{
		Name: "flops", Inputs: []Value{
			{Name: "x", Shape: shapes.Make(dtypes.Float32, 2, 8, 8, 4)},
			{Name: "kernel", Shape: shapes.Make(dtypes.Float32, 3, 3, 4, 6)},
			{Name: "weights", Shape: shapes.Make(dtypes.Float32, 6, 5)},
		},
		Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			y := Convolve(in[0], in[1]).Strides(2).PadSame().Done()                          // [2, 4, 4, 6]
			z := Reshape(DotGeneral(y, []int{-1}, nil, in[2], []int{0}, nil), 2, 16, 5)      // from [2, 4, 4, 5]
			scores := DotGeneral(z, []int{2}, []int{0}, AddScalar(z, 1), []int{2}, []int{0}) // [2, 16, 16]
			return nil, Gradient(ReduceAllSum(Square(scores)), in...)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := program.FLOPs()
	if err != nil {
		t.Fatal(err)
	}
	const convolution, dense, batched = 2 * (2 * 4 * 4 * 6) * (3 * 3 * 4), 2 * (2 * 4 * 4 * 5) * 6,
		2 * (2 * 16 * 16) * 5
	// A gradient takes one such operation for each of the two inputs.
	if want := float64(3 * (convolution + dense + batched)); got != want {
		t.Errorf("got %g operations, want %g", got, want)
	}
}
