package xla_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/internal/parity"
	"limner/models/nn"
)

// run runs a function of normal numbers.
func run(t *testing.T, build func(in []*Node) []*Node, in ...shapes.Shape) [][]float32 {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	inputs := make([]parity.Tensor, len(in))
	for i, shape := range in {
		inputs[i] = parity.Tensor{Shape: shape.Dimensions, Data: make([]float32, shape.Size())}
		for k := range inputs[i].Data {
			inputs[i].Data[k] = float32(rng.NormFloat64())
		}
	}
	results := parity.Run(t, parity.Model{}, inputs, func(_ nn.Params, in []*Node, named map[string]*Node) {
		for i, y := range build(in) {
			named[strconv.Itoa(i)] = y
		}
	})
	outputs := make([][]float32, len(results))
	for i := range outputs {
		outputs[i] = results[strconv.Itoa(i)].Data
	}
	return outputs
}

// checkClose compares the elements of two arrays.
func checkClose(t *testing.T, got, want []float32, tolerance float64) {
	t.Helper()
	for i := range want {
		if off := math.Abs(float64(got[i] - want[i])); !(off <= tolerance) {
			t.Fatalf("element %d: got %g, want %g, off by %g", i, got[i], want[i], off)
		}
	}
}

// Our attention gives what its definition gives.
func TestForwardAttention(t *testing.T) {
	b := open(t, 1)
	kernel := b.ForwardAttention()
	if kernel == nil {
		t.Skip("XLA's own attention is used on this processor")
	}
	for _, c := range []struct{ batch, queries, keys, heads, width int }{
		{1, 4, 1, 1, 1}, {2, 16, 77, 2, 8}, {1, 64, 64, 8, 16}, {2, 36, 36, 3, 40}, {1, 1024, 1024, 2, 40}, {1, 520, 600, 1, 160}, {1, 8, 32, 1, 80},
	} {
		t.Run(fmt.Sprintf("%d×%d by %d, %d heads of %d", c.batch, c.queries, c.keys, c.heads, c.width), func(t *testing.T) {
			q, k := shapes.Make(dtypes.Float32, c.batch, c.queries, c.heads*c.width), shapes.Make(dtypes.Float32, c.batch, c.keys, c.heads*c.width)
			out := run(t, func(in []*Node) []*Node {
				large := MulScalar(in[0], 3) // some scores are far below the largest
				return []*Node{kernel(large, in[1], in[2], c.heads), nn.ScaledDotProduct(nn.Params{}.WithAttention(nil), large, in[1], in[2], c.heads, nil)}
			}, q, k, k)
			checkClose(t, out[0], out[1], 1e-5)
		})
	}
	for name, c := range map[string]struct {
		queries, heads int
		dtype          dtypes.DType
	}{"queries": {6, 4, dtypes.Float32}, "wide heads": {8, 1, dtypes.Float32}, "dtype": {8, 4, dtypes.BFloat16}} {
		run(t, func(in []*Node) []*Node {
			x := Zeros(in[0].Graph(), shapes.Make(c.dtype, 1, c.queries, 320))
			if kernel(x, x, x, c.heads) != nil {
				t.Errorf("%s: taken", name)
			}
			return in
		}, shapes.Make(dtypes.Float32, 1))
	}
}

// Our convolution gives what XLA's does.
func TestForwardConvolution(t *testing.T) {
	b := open(t, 1)
	kernel := b.ForwardConvolution()
	if kernel == nil {
		t.Skip("XLA's own convolution is used on this processor")
	}
	for _, c := range []struct {
		batch, rows, columns, in, size, out, stride int
		padding                                     [2]int
	}{
		{1, 4, 4, 3, 3, 32, 1, [2]int{1, 1}},
		{2, 8, 8, 64, 3, 96, 1, [2]int{1, 1}},
		{3, 5, 4, 7, 3, 64, 1, [2]int{1, 1}},     // strips that end in one and in two quads
		{1, 32, 20, 650, 3, 32, 1, [2]int{1, 1}}, // more than one strip and part of in
		{2, 8, 16, 40, 3, 160, 2, [2]int{1, 1}},
		{1, 9, 8, 16, 3, 64, 2, [2]int{0, 1}}, // the VAE's
		{2, 3, 12, 32, 1, 32, 1, [2]int{}},
		{1, 6, 8, 8, 5, 32, 1, [2]int{2, 2}},
	} {
		t.Run(fmt.Sprintf("%d×%d×%d×%d by %d to %d, stride %d", c.batch, c.rows, c.columns, c.in, c.size, c.out, c.stride), func(t *testing.T) {
			out := run(t, func(in []*Node) []*Node {
				want := Convolve(in[0], in[1]).Strides(c.stride).PaddingPerDim([][2]int{c.padding, c.padding}).Done()
				return []*Node{kernel(in[0], in[1], c.stride, c.padding), want}
			}, shapes.Make(dtypes.Float32, c.batch, c.rows, c.columns, c.in), shapes.Make(dtypes.Float32, c.size, c.size, c.in, c.out))
			checkClose(t, out[0], out[1], 4e-6*math.Sqrt(float64(c.size*c.size*c.in)))
		})
	}
	for name, c := range map[string]struct {
		columns, out int
		dtype        dtypes.DType
	}{"outputs": {8, 48, dtypes.Float32}, "pixels": {6, 32, dtypes.Float32}, "dtype": {8, 32, dtypes.BFloat16}} {
		run(t, func(in []*Node) []*Node {
			g := in[0].Graph()
			if kernel(Zeros(g, shapes.Make(c.dtype, 1, 4, c.columns, 3)), Zeros(g, shapes.Make(c.dtype, 3, 3, 3, c.out)), 1, [2]int{1, 1}) != nil {
				t.Errorf("%s: taken", name)
			}
			return in
		}, shapes.Make(dtypes.Float32, 1))
	}
}

// Layers that are given the kernels use them.
func TestForwardLayers(t *testing.T) {
	b := open(t, 1)
	if b.ForwardConvolution() == nil {
		t.Skip("XLA's own convolution is used on this processor")
	}
	tree := nn.Tree{
		{Key: "conv.weight", Kind: nn.Kernel, Shape: []int{3, 3, 8, 32}}, {Key: "conv.bias", Kind: nn.Vector, Shape: []int{32}},
		{Key: "linear.weight", Kind: nn.Dense, Shape: []int{32, 64}}, {Key: "linear.bias", Kind: nn.Vector, Shape: []int{64}},
	}
	in := []shapes.Shape{shapes.Make(dtypes.Float32, 2, 4, 8, 8)}
	for _, spec := range tree {
		in = append(in, shapes.Make(dtypes.Float32, spec.Shape...))
	}
	calls := 0
	out := run(t, func(in []*Node) (outputs []*Node) {
		for _, kernel := range []nn.ConvolutionKernel{nil, b.ForwardConvolution()} {
			p := nn.Bind(tree, in[1:]).WithConvolution(func(x, w *Node, stride int, padding [2]int) *Node {
				if kernel == nil {
					return nil
				}
				calls++
				return kernel(x, w, stride, padding)
			})
			y := Reshape(nn.Conv2D(p.In("conv"), in[0], 32, 3), 2, 32, 32)
			outputs = append(outputs, nn.Linear(p.In("linear"), y, 64))
		}
		return outputs
	}, in...)
	checkClose(t, out[1], out[0], 2e-4) // numbers of 50, which the kernels and XLA sum in other orders
	if calls != 2 {
		t.Errorf("%d calls, want 2", calls)
	}
}
