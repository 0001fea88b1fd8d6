package patch_test

import (
	"maps"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
	"github.com/gomlx/gomlx/pkg/core/tensors"

	"limner/xla/patch"
)

// shipped are the gradients that GoMLX comes with.
var shipped = maps.Clone(VJPRegistration)

// values returns n float64 between low and high, spread without order and without two of a value.
func values(n int, low, high float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		_, frac := math.Modf(float64(i+1) * 0.6180339887498949)
		v[i] = low + (high-low)*frac
	}
	return v
}

// checkGradients compares the gradients of a weighted sum of f with central differences, in float64. Inputs are in
// [low, high].
func checkGradients(t *testing.T, low, high float64, f func(x []*Node) *Node, dims ...[]int) {
	t.Helper()
	patch.RegisterGradients()
	b := testBackend(t, 1)
	flat := make([][]float64, len(dims))
	for i, d := range dims {
		flat[i] = values(shapes.Make(dtypes.Float64, d...).Size(), low, high)
	}
	build := func(name string, gradients bool) *Graph {
		g := NewGraph(b, t.Name()+name)
		x := make([]*Node, len(dims))
		for i, d := range dims {
			x[i] = Parameter(g, string(rune('a'+i)), shapes.Make(dtypes.Float64, d...))
		}
		y := f(x)
		weights := Const(g, tensors.FromFlatDataAndDimensions(values(y.Shape().Size(), -1, 2), y.Shape().Dimensions...))
		out := []*Node{ReduceAllSum(Mul(y, weights))}
		if gradients {
			out = Gradient(out[0], x...)
		}
		g.Compile(out...)
		return g
	}
	run := func(g *Graph) []*tensors.Tensor {
		in := make([]any, len(dims))
		for i, d := range dims {
			in[i] = tensors.FromFlatDataAndDimensions(append([]float64(nil), flat[i]...), d...)
		}
		return g.Run(in...)
	}
	loss, grads := build("/loss", false), build("/gradient", true)
	defer loss.Finalize()
	defer grads.Finalize()
	got := run(grads)
	const h = 1e-5
	for i := range dims {
		g := tensors.MustCopyFlatData[float64](got[i])
		for j, x := range flat[i] {
			flat[i][j] = x + h
			up := tensors.ToScalar[float64](run(loss)[0])
			flat[i][j] = x - h
			down := tensors.ToScalar[float64](run(loss)[0])
			flat[i][j] = x
			want := (up - down) / (2 * h)
			if !(math.Abs(g[j]-want) <= 1e-6*(1+math.Abs(want))) {
				t.Fatalf("gradient of input %d %v at %d: got %g, want %g", i, dims[i], j, g[j], want)
			}
		}
	}
}

func TestDotGeneralGradient(t *testing.T) {
	for _, c := range []struct {
		name                       string
		lhs, rhs                   []int
		lhsSum, lhsB, rhsSum, rhsB []int
	}{
		{"dense", []int{3, 4}, []int{4, 5}, []int{1}, nil, []int{0}, nil},
		{"transposed", []int{4, 3}, []int{5, 4}, []int{0}, nil, []int{1}, nil},
		{"dense rank 3", []int{2, 3, 4}, []int{4, 5}, []int{2}, nil, []int{0}, nil},
		{"scores", []int{2, 2, 3, 4}, []int{2, 2, 5, 4}, []int{3}, []int{0, 1}, []int{3}, []int{0, 1}},
		{"values", []int{2, 2, 3, 5}, []int{2, 2, 5, 4}, []int{3}, []int{0, 1}, []int{2}, []int{0, 1}},
		{"heads behind", []int{2, 3, 2, 4}, []int{2, 5, 2, 4}, []int{3}, []int{0, 2}, []int{3}, []int{0, 2}},
		{"batch swapped", []int{2, 3, 4, 2}, []int{3, 2, 2, 5}, []int{3}, []int{0, 1}, []int{2}, []int{1, 0}},
		{"two sums, crossed", []int{2, 3, 4, 5}, []int{5, 2, 4, 3}, []int{3, 1}, []int{0}, []int{0, 3}, []int{1}},
		{"no cross", []int{2, 3}, []int{2, 3}, []int{1}, []int{0}, []int{1}, []int{0}},
		{"outer", []int{3}, []int{4}, nil, nil, nil, nil},
		{"vector", []int{4}, []int{4}, []int{0}, nil, []int{0}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkGradients(t, -1, 1, func(x []*Node) *Node {
				return DotGeneral(x[0], c.lhsSum, c.lhsB, x[1], c.rhsSum, c.rhsB)
			}, c.lhs, c.rhs)
		})
	}
}

var tensorType = regexp.MustCompile(`tensor<((?:\d+x)*)[a-z]`)

// maxRank is the highest rank of a tensor in StableHLO text.
func maxRank(text string) int {
	rank := 0
	for _, m := range tensorType.FindAllStringSubmatch(text, -1) {
		rank = max(rank, strings.Count(m[1], "x"))
	}
	return rank
}

// Forward and backward hold three dots for each dot of the forward graph, and nothing of a higher rank.
func TestDotGeneralStableHLO(t *testing.T) {
	patch.RegisterGradients()
	b, err := patch.NewBackend(1)
	check(t, err)
	dense := func(x []*Node) *Node {
		return DotGeneral(Tanh(DotGeneral(x[0], []int{1}, nil, x[1], []int{0}, nil)), []int{1},
			nil, x[2], []int{0}, nil)
	}
	attention := func(x []*Node) *Node {
		scores := Softmax(DotGeneral(x[0], []int{3}, []int{0, 1}, x[1], []int{3}, []int{0, 1}), -1)
		return DotGeneral(scores, []int{3}, []int{0, 1}, x[2], []int{2}, []int{0, 1})
	}
	for _, c := range []struct {
		name    string
		f       func(x []*Node) *Node
		dims    [][]int
		forward int
	}{
		{"dense", dense, [][]int{{8, 4}, {4, 6}, {6, 5}}, 2},
		{"attention", attention, [][]int{{2, 3, 8, 4}, {2, 3, 6, 4}, {2, 3, 6, 4}}, 2},
	} {
		text := func(t *testing.T) string {
			g := NewGraph(b, t.Name())
			x := make([]*Node, len(c.dims))
			for i, d := range c.dims {
				x[i] = Parameter(g, string(rune('a'+i)), shapes.Make(dtypes.Float32, d...))
			}
			y := c.f(x)
			loss := ReduceAllSum(Mul(y, y))
			s, err := patch.Program(g, append(Gradient(loss, x...), loss), nil, 0)
			check(t, err)
			return string(s)
		}
		rank := len(c.dims[0])
		t.Run(c.name, func(t *testing.T) {
			s := text(t)
			if got, want := strings.Count(s, "stablehlo.dot_general"), 3*c.forward; got != want {
				t.Errorf("dots: got %d, want %d", got, want)
			}
			if got := maxRank(s); got > rank {
				t.Errorf("highest rank: got %d, want %d", got, rank)
			}
		})
		t.Run(c.name+" as shipped", func(t *testing.T) {
			ours := VJPRegistration[NodeTypeDotGeneral]
			VJPRegistration[NodeTypeDotGeneral] = shipped[NodeTypeDotGeneral]
			defer func() { VJPRegistration[NodeTypeDotGeneral] = ours }()
			if got := strings.Count(text(t), "stablehlo.dot_general"); got != c.forward {
				t.Errorf("GoMLX's own gradient now has %d dots: the repair may be needless", got-c.forward)
			}
		})
	}
}

// What is registered was missing, and nothing that GoMLX has is replaced but DotGeneral.
func TestRegisteredGradients(t *testing.T) {
	patch.RegisterGradients()
	patch.RegisterGradients()
	for node := range VJPRegistration {
		if _, ok := shipped[node]; ok && node == NodeTypeDotGeneral {
			continue
		}
		switch node {
		case NodeTypeRsqrt, NodeTypeExpm1, NodeTypePad, NodeTypeReverse, NodeTypeIdentity,
			NodeTypeFloor, NodeTypeCeil, NodeTypeRound, NodeTypeSign:
			if shipped[node] != nil {
				t.Errorf("GoMLX now has a gradient of %s: ours may be needless", node)
			}
		default:
			if shipped[node] == nil {
				t.Errorf("gradient of %s is registered without a test", node)
			}
		}
	}
}

func pad(x, fill *Node, axes ...PadAxis) *Node { return Pad(x, fill, axes...) }

func TestMissingGradients(t *testing.T) {
	two := []int{3, 4}
	for _, c := range []struct {
		name      string
		low, high float64
		f         func(x []*Node) *Node
		dims      [][]int
	}{
		{"rsqrt", 0.2, 3, func(x []*Node) *Node { return Rsqrt(x[0]) }, [][]int{two}},
		{"expm1", -3, 2, func(x []*Node) *Node { return Expm1(x[0]) }, [][]int{two}},
		{"reverse", -1, 1, func(x []*Node) *Node { return Reverse(x[0], 1) }, [][]int{two}},
		{"reverse both", -1, 1, func(x []*Node) *Node { return Reverse(x[0], 0, -1) }, [][]int{two}},
		{"identity", -1, 1, func(x []*Node) *Node { return Identity(x[0]) }, [][]int{two}},
		{"pad", -1, 1, func(x []*Node) *Node {
			return pad(x[0], x[1], PadAxis{Start: 1, End: 2}, PadAxis{Start: 0, End: 1})
		}, [][]int{two, {}}},
		{
			"pad fewer axes", -1, 1, func(x []*Node) *Node { return pad(x[0], x[1], PadAxis{Start: 1}) },
			[][]int{two, {}},
		},
		{"pad between", -1, 1, func(x []*Node) *Node {
			return pad(x[0], x[1], PadAxis{Start: 1, End: 1, Interior: 2}, PadAxis{Interior: 1})
		}, [][]int{two, {}}},
		{"crop", -1, 1, func(x []*Node) *Node {
			return pad(x[0], x[1], PadAxis{Start: -1, End: 1}, PadAxis{Start: 1, End: -2})
		}, [][]int{two, {}}},
		{"crop between", -1, 1, func(x []*Node) *Node {
			return pad(x[0], x[1], PadAxis{Start: -1, End: 2, Interior: 1}, PadAxis{End: -1, Interior: 2})
		}, [][]int{two, {}}},
		{"floor", 0.1, 0.9, func(x []*Node) *Node { return Add(Floor(MulScalar(x[0], 1)), x[0]) }, [][]int{two}},
		{"ceil", 0.1, 0.9, func(x []*Node) *Node { return Add(Ceil(x[0]), x[0]) }, [][]int{two}},
		{"round", 0.6, 1.4, func(x []*Node) *Node { return Add(Round(x[0]), x[0]) }, [][]int{two}},
		{"sign", 0.1, 0.9, func(x []*Node) *Node { return Add(Sign(x[0]), x[0]) }, [][]int{two}},
	} {
		t.Run(c.name, func(t *testing.T) { checkGradients(t, c.low, c.high, c.f, c.dims...) })
	}
}
