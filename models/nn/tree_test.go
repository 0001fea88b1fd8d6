package nn_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/internal/parity"
	"limner/models/nn"
	"limner/xla"
)

func twoLayers(p nn.Params, x *Node) *Node {
	h := nn.Conv2D(p.At("blocks", 0), x, 4, 3)
	return nn.Linear(p.In("out"), h, 2)
}

func declare(build func(p nn.Params, x *Node)) nn.Tree {
	return nn.Declare(func(g *Graph, p nn.Params) { build(p, Zeros(g, shapes.Make(dtypes.Float32, 1, 2, 2, 3))) })
}

// normal draws a tensor around a mean, with a deviation of 1.
func normal(rng *rand.Rand, mean float64, shape ...int) parity.Tensor {
	x := parity.Tensor{Shape: shape, Data: make([]float32, nn.Spec{Shape: shape}.Size())}
	for i := range x.Data {
		x.Data[i] = float32(mean + rng.NormFloat64())
	}
	return x
}

func TestDeclareInForwardOrder(t *testing.T) {
	tree := declare(func(p nn.Params, x *Node) { twoLayers(p.In("net"), x) })
	want := nn.Tree{
		{Key: "net.blocks.0.weight", Shape: []int{3, 3, 3, 4}, Kind: nn.Kernel, Init: nn.InitUniform, FanIn: 27},
		{Key: "net.blocks.0.bias", Shape: []int{4}, Kind: nn.Vector, Init: nn.InitZeros, FanIn: 27},
		{Key: "net.out.weight", Shape: []int{4, 2}, Kind: nn.Dense, Init: nn.InitUniform, FanIn: 4},
		{Key: "net.out.bias", Shape: []int{2}, Kind: nn.Vector, Init: nn.InitZeros, FanIn: 4},
	}
	if diff := cmp.Diff(want, tree); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if tree.Size() != 108+4+8+2 {
		t.Errorf("%d elements, want 122", tree.Size())
	}
	if diff := cmp.Diff([]int{4, 3, 3, 3}, tree[0].FileShape()); diff != "" {
		t.Errorf("a kernel's shape in a file: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(tree, tree.Within("net").Under("net")); diff != "" {
		t.Errorf("within and under: -want +got:\n%s", diff)
	}
}

func TestSharedParametersAreDeclaredOnce(t *testing.T) {
	tree := declare(func(p nn.Params, x *Node) {
		nn.Linear(p.In("shared"), x, 3)
		nn.Linear(p.In("shared"), x, 3)
	})
	if len(tree) != 2 {
		t.Errorf("got %v, want a weight and a bias", tree)
	}
}

func TestBindNamesWhatDoesNotFit(t *testing.T) {
	tree := declare(func(p nn.Params, x *Node) { nn.Linear(p.In("a"), x, 3) })
	err := xla.Try(func() {
		declare(func(_ nn.Params, x *Node) {
			g := x.Graph()
			nodes := []*Node{Zeros(g, shapes.Make(dtypes.Float32, 3, 3)), Zeros(g, shapes.Make(dtypes.Float32, 3))}
			nn.Linear(nn.Bind(tree, nodes).In("b"), x, 3)
		})
	})
	if err == nil || !strings.Contains(err.Error(), "no parameter b.weight in the tree") {
		t.Errorf("a key that is not there: got %v", err)
	}
	err = xla.Try(func() {
		declare(func(_ nn.Params, x *Node) { nn.Bind(tree, []*Node{x}) })
	})
	if err == nil || !strings.Contains(err.Error(), "bind 2 parameters to 1 nodes") {
		t.Errorf("too few nodes: got %v", err)
	}
}

func TestInitValues(t *testing.T) {
	tree := nn.Tree{
		{Key: "ones", Shape: []int{5}, Init: nn.InitOnes}, {Key: "zeros", Shape: []int{5}},
		{Key: "uniform", Shape: []int{100, 100}, Init: nn.InitUniform, FanIn: 25},
		{Key: "normal", Shape: []int{100, 100}, Init: nn.InitNormal},
	}
	values := nn.InitValues(tree, 1)
	for key, want := range map[string]float64{"ones": 1, "zeros": 0, "uniform": 0.2, "normal": 0.02} {
		var squares float64
		for _, v := range values[key] {
			squares += float64(v) * float64(v)
		}
		if rms := math.Sqrt(squares / float64(len(values[key]))); math.Abs(rms-want) > 0.03*want {
			t.Errorf("%s: root mean square %g, want %g", key, rms, want)
		}
	}
	alone := nn.InitValues(tree[2:3], 1)
	if diff := cmp.Diff(values["uniform"], alone["uniform"]); diff != "" {
		t.Error("values depend on other parameters")
	}
	if other := nn.InitValues(tree, 2); cmp.Equal(values["normal"], other["normal"]) {
		t.Error("another seed gives the same values")
	}
}

// An odd size is halved, rounding up, and comes back through the size of its skip connection.
func TestOddSizes(t *testing.T) {
	tree := declare(func(p nn.Params, x *Node) {
		nn.Upsample2D(p.In("up"), nn.Downsample2D(p.In("down"), x, [2]int{1, 1}), 2, 2)
	})
	x := parity.Tensor{Data: make([]float32, 5*7*3), Shape: []int{1, 5, 7, 3}}
	got := parity.Run(t, parity.Model{Tree: tree, Values: nn.InitValues(tree, 1)}, []parity.Tensor{x},
		func(p nn.Params, in []*Node, out map[string]*Node) {
			out["small"] = nn.Downsample2D(p.In("down"), in[0], [2]int{1, 1})
			out["large"] = nn.Upsample2D(p.In("up"), out["small"], 5, 7)
		})
	for name, want := range map[string][]int{"small": {1, 3, 4, 3}, "large": {1, 5, 7, 3}} {
		if diff := cmp.Diff(want, got[name].Shape); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// Large scores do not overflow, and a mask hides keys.
func TestScaledDotProduct(t *testing.T) {
	q := parity.Tensor{Data: []float32{1000, 0, 0, 1000}, Shape: []int{1, 2, 2}}
	v := parity.Tensor{Data: []float32{1, 2, 3, 4}, Shape: []int{1, 2, 2}}
	mask := parity.Tensor{Data: []float32{0, -1e30, -1e30, 0}, Shape: []int{1, 1, 2, 2}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{q, v, mask},
		func(p nn.Params, in []*Node, out map[string]*Node) {
			out["sharp"] = nn.ScaledDotProduct(p, in[0], in[0], in[1], 1, nil)
			out["masked"] = nn.ScaledDotProduct(p, ZerosLike(in[0]), in[0], in[1], 2, in[2])
		})
	want := parity.Tensor{Data: []float32{1, 2, 3, 4}, Shape: []int{1, 2, 2}}
	parity.Check(t, "sharp", got["sharp"], want, 0)
	parity.Check(t, "masked", got["masked"], want, 0)
}
