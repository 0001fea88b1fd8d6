package patch_test

import (
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// The gradients that a diffusion network takes from GoMLX as they are.
func TestShippedGradients(t *testing.T) {
	two := []int{3, 4}
	image := []int{2, 5, 6, 3}
	conv := func(size, stride, before, after int) func(x []*Node) *Node {
		return func(x []*Node) *Node {
			return Convolve(x[0], x[1]).Strides(stride).
				PaddingPerDim([][2]int{{before, after}, {before, after}}).Done()
		}
	}
	for _, c := range []struct {
		name      string
		low, high float64
		f         func(x []*Node) *Node
		dims      [][]int
	}{
		{"exp", -2, 2, func(x []*Node) *Node { return Exp(x[0]) }, [][]int{two}},
		{"log", 0.2, 3, func(x []*Node) *Node { return Log(x[0]) }, [][]int{two}},
		{"sqrt", 0.2, 3, func(x []*Node) *Node { return Sqrt(x[0]) }, [][]int{two}},
		{"square", -2, 2, func(x []*Node) *Node { return Square(x[0]) }, [][]int{two}},
		{"abs", -2, 2, func(x []*Node) *Node { return Abs(x[0]) }, [][]int{two}},
		{"sin cos", -2, 2, func(x []*Node) *Node { return Mul(Sin(x[0]), Cos(x[0])) }, [][]int{two}},
		{"erf", -2, 2, func(x []*Node) *Node { return Erf(x[0]) }, [][]int{two}},
		{"tanh", -2, 2, func(x []*Node) *Node { return Tanh(x[0]) }, [][]int{two}},
		{"sigmoid", -2, 2, func(x []*Node) *Node { return Sigmoid(x[0]) }, [][]int{two}},
		{"silu", -2, 2, func(x []*Node) *Node { return Mul(x[0], Sigmoid(x[0])) }, [][]int{two}},
		{"softmax", -2, 2, func(x []*Node) *Node { return Softmax(x[0], -1) }, [][]int{two}},
		{"log softmax", -2, 2, func(x []*Node) *Node { return LogSoftmax(x[0], -1) }, [][]int{two}},
		{"max", -2, 2, func(x []*Node) *Node { return Max(x[0], MulScalar(x[1], -0.7)) }, [][]int{two, two}},
		{"min of a scalar", -2, 2, func(x []*Node) *Node { return Min(x[0], MulScalar(x[1], 0.3)) }, [][]int{two, {}}},
		{"reduce max", -2, 2, func(x []*Node) *Node { return ReduceMax(x[0], 1) }, [][]int{two}},
		{"mean", -2, 2, func(x []*Node) *Node { return ReduceAndKeep(x[0], ReduceMean, 0) }, [][]int{two}},
		{"div broadcast", 0.5, 2, func(x []*Node) *Node { return Div(x[0], x[1]) }, [][]int{two, {3, 1}}},
		{"div scalar", 0.5, 2, func(x []*Node) *Node { return Div(x[1], x[0]) }, [][]int{two, {}}},
		{"pow", 0.5, 2, func(x []*Node) *Node { return Pow(x[0], x[1]) }, [][]int{two, two}},
		{
			"concatenate", -1, 1, func(x []*Node) *Node { return Concatenate([]*Node{x[0], x[1]}, -1) },
			[][]int{two, {3, 2}},
		},
		{"slice", -1, 1, func(x []*Node) *Node { return Slice(x[0], AxisRange(1), AxisRange(0, 3)) }, [][]int{two}},
		{
			"slice strided", -1, 1, func(x []*Node) *Node { return Slice(x[0], AxisRange(), AxisRange(1).Stride(2)) },
			[][]int{two},
		},
		{"transpose", -1, 1, func(x []*Node) *Node { return TransposeAllAxes(x[0], 2, 0, 3, 1) }, [][]int{image}},
		{"where", -1, 1, func(x []*Node) *Node {
			return Where(GreaterThan(x[0], ScalarZero(x[0].Graph(), dtypes.Float64)), x[0], Square(x[1]))
		}, [][]int{two, two}},
		{"gather", -1, 1, func(x []*Node) *Node {
			return Gather(x[0], Const(x[0].Graph(), [][][]int32{{{2}, {0}, {2}}, {{1}, {2}, {2}}}))
		}, [][]int{two}},
		{"upsample", -1, 1, func(x []*Node) *Node {
			y := BroadcastToDims(InsertAxes(x[0], 2, 3), 2, 5, 2, 6, 2, 3)
			return Reshape(y, 2, 10, 12, 3)
		}, [][]int{image}},
		{"conv 1×1", -1, 1, conv(1, 1, 0, 0), [][]int{image, {1, 1, 3, 2}}},
		{"conv 3×3", -1, 1, conv(3, 1, 1, 1), [][]int{image, {3, 3, 3, 2}}},
		{"conv 3×3 stride 2", -1, 1, conv(3, 2, 1, 1), [][]int{image, {3, 3, 3, 2}}},
		{"conv 3×3 stride 2 padding 0 1", -1, 1, conv(3, 2, 0, 1), [][]int{image, {3, 3, 3, 2}}},
		{"conv 3×3 stride 2 padding 0 1 even", -1, 1, conv(3, 2, 0, 1), [][]int{{1, 4, 4, 2}, {3, 3, 2, 2}}},
	} {
		t.Run(c.name, func(t *testing.T) { checkGradients(t, c.low, c.high, c.f, c.dims...) })
	}
}
