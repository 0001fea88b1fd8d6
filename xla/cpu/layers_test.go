package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/internal/parity"
	"limner/models/nn"
	"limner/xla/cpu"
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
	kernel := b.Forward().Attention
	if kernel == nil {
		t.Skip("XLA's own attention is used on this processor")
	}
	for _, c := range []struct{ batch, queries, keys, heads, width int }{
		{1, 4, 1, 1, 1}, {2, 16, 77, 2, 8}, {1, 64, 64, 8, 16}, {2, 36, 36, 3, 40}, {1, 1024, 1024, 2, 40},
		{1, 520, 600, 1, 160}, {1, 8, 32, 1, 80},
	} {
		t.Run(fmt.Sprintf("%d×%d by %d, %d heads of %d", c.batch, c.queries, c.keys, c.heads, c.width),
			func(t *testing.T) {
				q, k := shapes.Make(dtypes.Float32, c.batch, c.queries, c.heads*c.width),
					shapes.Make(dtypes.Float32, c.batch, c.keys, c.heads*c.width)
				out := run(t, func(in []*Node) []*Node {
					large := MulScalar(in[0], 3) // some scores are far below the largest
					return []*Node{
						kernel(large, in[1], in[2], c.heads),
						nn.ScaledDotProduct(nn.Bind(nil, nil), large, in[1], in[2], c.heads, nil),
					}
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
	kernel := b.Forward().Convolution
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
		{2, 17, 21, 320, 3, 96, 1, [2]int{1, 1}}, // rectangles of an image, of which some are smaller
		{5, 4, 4, 480, 3, 64, 1, [2]int{1, 1}},   // images in one
		{1, 16, 24, 96, 3, 352, 2, [2]int{1, 1}}, // two ranges of outputs
		{3, 8, 8, 64, 3, 32, 2, [2]int{0, 1}},
		{2, 1, 77, 160, 1, 640, 1, [2]int{}},
	} {
		t.Run(fmt.Sprintf("%d×%d×%d×%d by %d to %d, stride %d",
			c.batch, c.rows, c.columns, c.in, c.size, c.out, c.stride), func(t *testing.T) {
			if lines := c.columns / c.stride; lines%cpu.Quad != 0 && !cpu.MatrixUnit() {
				t.Skip("lines that only a matrix unit takes")
			}
			out := run(t, func(in []*Node) []*Node {
				want := Convolve(in[0], in[1]).Strides(c.stride).PaddingPerDim([][2]int{c.padding, c.padding}).Done()
				biased := Add(want, ExpandLeftToRank(in[2], 4))
				return []*Node{
					kernel(in[0], in[1], nil, c.stride, c.padding), kernel(in[0], in[1], in[2], c.stride, c.padding),
					want, biased,
				}
			}, shapes.Make(dtypes.Float32, c.batch, c.rows, c.columns, c.in),
				shapes.Make(dtypes.Float32, c.size, c.size, c.in, c.out), shapes.Make(dtypes.Float32, c.out))
			for i := range 2 {
				checkClose(t, out[i], out[i+2], 4e-6*math.Sqrt(float64(c.size*c.size*c.in)))
			}
		})
	}
	for name, c := range map[string]struct {
		columns, out int
		dtype, bias  dtypes.DType
	}{
		"outputs": {8, 48, dtypes.Float32, dtypes.Float32}, "pixels": {6, 32, dtypes.Float32, dtypes.Float32},
		"dtype": {8, 32, dtypes.BFloat16, dtypes.BFloat16}, "bias": {8, 32, dtypes.Float32, dtypes.BFloat16},
	} {
		run(t, func(in []*Node) []*Node {
			g := in[0].Graph()
			if kernel(Zeros(g, shapes.Make(c.dtype, 1, 4, c.columns, 3)),
				Zeros(g, shapes.Make(c.dtype, 3, 3, 3, c.out)), Zeros(g, shapes.Make(c.bias, c.out)),
				1, [2]int{1, 1}) != nil {
				t.Errorf("%s: taken", name)
			}
			return in
		}, shapes.Make(dtypes.Float32, 1))
	}
}

// Our normalisation gives what XLA's does, also of numbers that lie far from 0.
func TestForwardNormalization(t *testing.T) {
	b := open(t, 1)
	kernel := b.Forward().Normalization
	if kernel == nil {
		t.Skip("XLA's own normalisation is used on this processor")
	}
	for _, c := range []struct {
		dims   []int
		groups int
		silu   bool
	}{
		{[]int{2, 5, 7, 32}, 8, true},
		{[]int{1, 64, 48, 320}, 32, false}, // strips
		{[]int{3, 1, 1, 64}, 32, true},
		{[]int{600, 160}, 1, false},
		{[]int{5, 48}, 1, true},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			channels := c.dims[len(c.dims)-1]
			out := run(t, func(in []*Node) []*Node {
				x := AddScalar(MulScalar(in[0], 3), 40)
				grouped := Reshape(x, c.dims[0], -1, c.groups, channels/c.groups)
				centred := Sub(grouped, ReduceAndKeep(grouped, ReduceMean, 1, 3))
				want := Mul(centred, Rsqrt(AddScalar(ReduceAndKeep(Square(centred), ReduceMean, 1, 3), 1e-5)))
				want = Reshape(want, c.dims...)
				want = Add(Mul(want, ExpandLeftToRank(in[1], want.Rank())), ExpandLeftToRank(in[2], want.Rank()))
				if c.silu {
					want = nn.SiLU(want)
				}
				return []*Node{kernel(x, in[1], in[2], c.groups, 1e-5, c.silu), want}
			}, shapes.Make(dtypes.Float32, c.dims...), shapes.Make(dtypes.Float32, channels),
				shapes.Make(dtypes.Float32, channels))
			checkClose(t, out[0], out[1], 2e-5)
		})
	}
	run(t, func(in []*Node) []*Node {
		g := in[0].Graph()
		if v := Zeros(g, shapes.Make(dtypes.Float32, 40)); kernel(Zeros(g, shapes.Make(dtypes.Float32, 2, 40)), v, v,
			1, 1e-5, false) != nil {
			t.Error("40 channels: taken")
		}
		return in
	}, shapes.Make(dtypes.Float32, 1))
}

// Layers that are given the kernels use them.
func TestForwardLayers(t *testing.T) {
	b := open(t, 1)
	kernels := nn.Kernels(b.Forward())
	if kernels.Convolution == nil {
		t.Skip("XLA's own layers are used on this processor")
	}
	tree := nn.Declare(func(g *Graph, p nn.Params) {
		forwardLayers(p, Zeros(g, shapes.Make(dtypes.Float32, 2, 4, 8, 16)))
	})
	in := []shapes.Shape{shapes.Make(dtypes.Float32, 2, 4, 8, 16)}
	for _, spec := range tree {
		in = append(in, shapes.Make(dtypes.Float32, spec.Shape...))
	}
	var calls []string
	counted := nn.Kernels{
		Convolution: func(x, w, bias *Node, stride int, padding [2]int) *Node {
			calls = append(calls, fmt.Sprintf("convolution, bias %t", bias != nil))
			return kernels.Convolution(x, w, bias, stride, padding)
		},
		Normalization: func(x, scale, shift *Node, groups int, epsilon float64, silu bool) *Node {
			calls = append(calls, fmt.Sprintf("normalization of %d groups, silu %t", groups, silu))
			return kernels.Normalization(x, scale, shift, groups, epsilon, silu)
		},
	}
	out := run(t, func(in []*Node) []*Node {
		p := nn.Bind(tree, in[1:])
		return []*Node{forwardLayers(p, in[0]), forwardLayers(p.WithKernels(counted), in[0])}
	}, in...)
	checkClose(t, out[1], out[0], 1e-3) // numbers of hundreds, which the kernels and XLA sum in other orders
	want := []string{
		"normalization of 4 groups, silu true", "convolution, bias true", "normalization of 1 groups, silu false",
		"convolution, bias true", "convolution, bias false",
	}
	if !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
}

func forwardLayers(p nn.Params, x *Node) *Node {
	y := nn.Conv2D(p.In("conv"), nn.GroupNormSiLU(p.In("norm1"), x, 4, 1e-5), 32, 3)
	y = nn.LayerNorm(p.In("norm2"), Reshape(y, 2, 32, 32), 1e-5)
	return nn.LinearNoBias(p.In("to_q"), nn.Linear(p.In("linear"), y, 64), 32)
}
