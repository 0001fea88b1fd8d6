package nn

import (
	"testing"

	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// A network may hold operations that GoMLX's backend in Go cannot compute.
func TestDeclareTakesAllOperations(t *testing.T) {
	f32, bits, truth := shapes.Make(dtypes.Float32, 2, 3), shapes.Make(dtypes.Uint8, 2, 4),
		shapes.Make(dtypes.Bool, 2, 3)
	tree := Declare(func(g *Graph, p Params) {
		x, b := Parameter(g, "x", f32), Parameter(g, "b", bits)
		zero, start := Scalar(g, dtypes.Float32, 0), Scalar(g, dtypes.Int32, 0)
		for name, c := range map[string]struct {
			got  *Node
			want shapes.Shape
		}{
			"Reverse": {Reverse(x, -1), f32},
			"Pad": {Pad(x, zero, backends.PadAxis{Start: 1}, backends.PadAxis{End: -1, Interior: 2}),
				shapes.Make(dtypes.Float32, 3, 6)},
			"DynamicSlice": {
				DynamicSlice(x, []*Node{start, start}, []int{1, 2}), shapes.Make(dtypes.Float32, 1, 2),
			},
			"DynamicUpdateSlice": {DynamicUpdateSlice(x, x, []*Node{start, start}), f32},
			"Bitcast, joined":    {Bitcast(b, dtypes.Float32), shapes.Make(dtypes.Float32, 2)},
			"Bitcast, split":     {Bitcast(x, dtypes.Uint8), shapes.Make(dtypes.Uint8, 2, 3, 4)},
			"Bitcast":            {Bitcast(x, dtypes.Uint32), shapes.Make(dtypes.Uint32, 2, 3)},

			"ShiftLeft":            {BitwiseShiftLeft(b, b), bits},
			"ShiftRightArithmetic": {BitwiseShiftRightArithmetic(b, b), bits},
			"ShiftRightLogical":    {BitwiseShiftRightLogical(b, b), bits},

			"EqualTotalOrder":          {EqualTotalOrder(x, x), truth},
			"NotEqualTotalOrder":       {NotEqualTotalOrder(x, x), truth},
			"GreaterThanTotalOrder":    {GreaterThanTotalOrder(x, x), truth},
			"GreaterOrEqualTotalOrder": {GreaterOrEqualTotalOrder(x, x), truth},
			"LessThanTotalOrder":       {LessThanTotalOrder(x, x), truth},
			"LessOrEqualTotalOrder":    {LessOrEqualTotalOrder(x, x), truth},
		} {
			if !c.got.Shape().Equal(c.want) {
				t.Errorf("%s: got %s, want %s", name, c.got.Shape(), c.want)
			}
		}
		Linear(p.In("after"), Reverse(x, 0), 5) // goes on with what came out
	})
	if len(tree) != 2 || tree[0].Key != "after.weight" {
		t.Errorf("got %v, want the weight and bias of one layer", tree)
	}
}
