package nn

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/shapeinference"
	"github.com/gomlx/gomlx/backends/simplego"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// Declare runs build on a graph that is thrown away and returns the parameters it asked for, in the order of
// first use. No device is involved. It panics as building a graph does.
func Declare(build func(g *Graph, p Params)) Tree {
	goBackend, err := simplego.New("")
	if err != nil {
		panic(err)
	}
	backend := declaring{goBackend}
	defer backend.Finalize()
	g := NewGraph(backend, "declare")
	defer g.Finalize()
	d := &declaration{graph: g}
	build(g, Params{source: &source{nodes: map[string]*Node{}, declare: d}})
	return d.tree
}

// declaring is the backend of graphs that are thrown away. Only shapes matter, so it also accepts the operations that
// the backend in Go cannot compute.
type declaring struct{ backends.Backend }

func (d declaring) Builder(name string) backends.Builder {
	return &shapesBuilder{Builder: d.Backend.Builder(name)}
}

// shapesBuilder adds the operations that simplego lacks. Each gives a new input of the shape that its result would
// have. Complex numbers, gradients of pooling, batch norms and collectives are left out: no network has them.
type shapesBuilder struct {
	backends.Builder
	inputs int
}

// input makes an input of a shape.
func (b *shapesBuilder) input(shape shapes.Shape) (backends.Op, error) {
	b.inputs++
	return b.Parameter(fmt.Sprintf("result %d", b.inputs), shape, nil)
}

// like makes an input of x's shape.
func (b *shapesBuilder) like(x backends.Op) (backends.Op, error) {
	shape, err := b.OpShape(x)
	if err != nil {
		return nil, err
	}
	return b.input(shape)
}

// resized makes an input of x's dtype and other dimensions.
func (b *shapesBuilder) resized(x backends.Op, dims ...int) (backends.Op, error) {
	shape, err := b.OpShape(x)
	if err != nil {
		return nil, err
	}
	return b.input(shapes.Make(shape.DType, dims...))
}

// binary makes an input of the shape that op infers for two operands.
func (b *shapesBuilder) binary(x, y backends.Op,
	op func(x, y shapes.Shape) (shapes.Shape, error)) (backends.Op, error) {
	xShape, err := b.OpShape(x)
	if err != nil {
		return nil, err
	}
	yShape, err := b.OpShape(y)
	if err != nil {
		return nil, err
	}
	shape, err := op(xShape, yShape)
	if err != nil {
		return nil, err
	}
	return b.input(shape)
}

func (b *shapesBuilder) Reverse(x backends.Op, _ ...int) (backends.Op, error) { return b.like(x) }

func (b *shapesBuilder) Pad(x, _ backends.Op, axes ...backends.PadAxis) (backends.Op, error) {
	shape, err := b.OpShape(x)
	if err != nil {
		return nil, err
	}
	dims := slices.Clone(shape.Dimensions)
	for i, axis := range axes {
		dims[i] += axis.Start + axis.End + axis.Interior*max(dims[i]-1, 0)
	}
	return b.resized(x, dims...)
}

func (b *shapesBuilder) DynamicSlice(x backends.Op, _ []backends.Op, dims []int) (backends.Op, error) {
	return b.resized(x, dims...)
}

func (b *shapesBuilder) DynamicUpdateSlice(x, _ backends.Op, _ []backends.Op) (backends.Op, error) {
	return b.like(x)
}

// Bitcast splits the elements of x along a new last axis, or joins those of the last axis, where the sizes differ.
func (b *shapesBuilder) Bitcast(x backends.Op, dtype dtypes.DType) (backends.Op, error) {
	shape, err := b.OpShape(x)
	if err != nil {
		return nil, err
	}
	dims := slices.Clone(shape.Dimensions)
	switch from, to := shape.DType.Size(), dtype.Size(); {
	case from > to:
		dims = append(dims, from/to)
	case from < to && len(dims) > 0:
		dims = dims[:len(dims)-1]
	}
	return b.input(shapes.Make(dtype, dims...))
}

func (b *shapesBuilder) ShiftLeft(x, n backends.Op) (backends.Op, error) { return b.shifted(x, n) }

func (b *shapesBuilder) ShiftRightArithmetic(x, n backends.Op) (backends.Op, error) {
	return b.shifted(x, n)
}

func (b *shapesBuilder) ShiftRightLogical(x, n backends.Op) (backends.Op, error) {
	return b.shifted(x, n)
}

func (b *shapesBuilder) shifted(x, n backends.Op) (backends.Op, error) {
	return b.binary(x, n, func(x, n shapes.Shape) (shapes.Shape, error) {
		return shapeinference.BinaryOp(backends.OpTypeBitwiseAnd, x, n) // takes the same operands
	})
}

func (b *shapesBuilder) EqualTotalOrder(x, y backends.Op) (backends.Op, error) {
	return b.compared(x, y)
}

func (b *shapesBuilder) NotEqualTotalOrder(x, y backends.Op) (backends.Op, error) {
	return b.compared(x, y)
}

func (b *shapesBuilder) GreaterThanTotalOrder(x, y backends.Op) (backends.Op, error) {
	return b.compared(x, y)
}

func (b *shapesBuilder) GreaterOrEqualTotalOrder(x, y backends.Op) (backends.Op, error) {
	return b.compared(x, y)
}

func (b *shapesBuilder) LessThanTotalOrder(x, y backends.Op) (backends.Op, error) {
	return b.compared(x, y)
}

func (b *shapesBuilder) LessOrEqualTotalOrder(x, y backends.Op) (backends.Op, error) {
	return b.compared(x, y)
}

func (b *shapesBuilder) compared(x, y backends.Op) (backends.Op, error) {
	return b.binary(x, y, func(x, y shapes.Shape) (shapes.Shape, error) {
		return shapeinference.ComparisonOp(backends.OpTypeLessThan, x, y)
	})
}
