// Package random makes random numbers in graphs: each is a function of its key and its index alone.
package random

import (
	"fmt"
	"math"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// Key returns the key [2] uint32 of the random numbers of one purpose in one step. Seed and step are integer
// scalars, or two uint32, the low word first. Keys that differ in seed, step or purpose give independent numbers.
//
// A number is a function of its key and of its index in row-major order alone: not of the draws before, of the
// number of devices, of the plugin, or of how many numbers follow.
func Key(seed, step *graph.Node, purpose uint32) *graph.Node {
	key0, key1 := words(seed)
	low, high := words(step)
	key0, key1 = threefry(key0, key1, low, high)
	g := seed.Graph()
	key0, key1 = threefry(key0, key1, graph.Const(g, purpose), graph.Const(g, uint32(0)))
	return graph.Stack([]*graph.Node{key0, key1}, 0)
}

// Rows returns a key for the numbers of rows of a larger array: those of an array drawn with it are the numbers that
// the larger one's rows from first on, an integer scalar, have under key. A row is all that has one index of the first
// axis.
func Rows(key, first *graph.Node) *graph.Node {
	first.AssertScalar()
	return graph.Concatenate([]*graph.Node{key, graph.Reshape(graph.ConvertDType(first, dtypes.Uint32), 1)}, 0)
}

// Bits returns uniform uint32 of the given dimensions.
func Bits(key *graph.Node, dims ...int) *graph.Node {
	bits, _ := randomWords(key, dims)
	return bits
}

// Normal returns numbers of a float shape, normal with mean 0 and variance 1, never NaN nor infinite, at most
// 5.77 in size. They are computed in float32.
func Normal(key *graph.Node, shape shapes.Shape) *graph.Node {
	mustBeFloat(shape)
	bits1, bits2 := randomWords(key, shape.Dimensions)
	return graph.StopGradient(graph.ConvertDType(normalFromBits(bits1, bits2), shape.DType))
}

// Int returns int32 of the given dimensions, uniform in [0, limit). The limit is an int, or an integer scalar
// Node, of at least 1. A limit that is no power of two is uneven by limit/2^32.
func Int[L interface{ int | *graph.Node }](key *graph.Node, limit L, dims ...int) *graph.Node {
	bits, _ := randomWords(key, dims)
	var n *graph.Node
	switch l := any(limit).(type) {
	case int:
		if l < 1 || l > math.MaxInt32 {
			panic(fmt.Errorf("random integers below %d: the limit must be in [1, 2^31)", l))
		}
		n = graph.Const(key.Graph(), uint64(l))
	case *graph.Node:
		n = graph.ConvertDType(l, dtypes.Uint64)
	}
	// ⌊bits·limit / 2^32⌋
	product := graph.Mul(graph.ConvertDType(bits, dtypes.Uint64), n)
	return graph.StopGradient(graph.ConvertDType(graph.BitwiseShiftRightLogicalScalar(product, 32), dtypes.Int32))
}

func mustBeFloat(shape shapes.Shape) {
	if !shape.DType.IsFloat() {
		panic(fmt.Errorf("random numbers of shape %s: want a float type", shape))
	}
}

// uniformFromBits maps uint32 to float32 in (0, 1): the upper 23 bits and a half, which float32 holds exactly.
func uniformFromBits(bits *graph.Node) *graph.Node {
	n := graph.ConvertDType(graph.BitwiseShiftRightLogicalScalar(bits, 9), dtypes.Float32)
	return graph.MulScalar(graph.AddScalar(n, 0.5), 1.0/(1<<23))
}

// normalFromBits is Box and Muller's transformation of two uint32 of one shape.
func normalFromBits(bits1, bits2 *graph.Node) *graph.Node {
	radius := graph.Sqrt(graph.MulScalar(graph.Log(uniformFromBits(bits1)), -2))
	return graph.Mul(radius, graph.Cos(graph.MulScalar(uniformFromBits(bits2), 2*math.Pi)))
}

// words returns the low and the high half of an integer scalar, or the two elements of a [2] uint32.
func words(x *graph.Node) (low, high *graph.Node) {
	if x.Rank() == 1 {
		x.AssertDims(2)
		word := func(i int) *graph.Node { return graph.Reshape(graph.Slice(x, graph.AxisElem(i))) }
		return word(0), word(1)
	}
	x.AssertScalar()
	x = graph.ConvertDType(x, dtypes.Uint64)
	low = graph.ConvertDType(graph.BitwiseAnd(x, graph.Const(x.Graph(), uint64(math.MaxUint32))), dtypes.Uint32)
	return low, graph.ConvertDType(graph.BitwiseShiftRightLogicalScalar(x, 32), dtypes.Uint32)
}

// randomWords returns two independent uint32 for each index of the given dimensions.
func randomWords(key *graph.Node, dims []int) (*graph.Node, *graph.Node) {
	g := key.Graph()
	shape := shapes.Make(dtypes.Uint32, dims...)
	if shape.Size() > math.MaxUint32 {
		panic(fmt.Errorf("random numbers of shape %s: more than 2^32", shape))
	}
	// Every axis counts by itself, so that each device makes the numbers of its shard and no others.
	index := graph.Zeros(g, shape)
	if key.Shape().Dim(0) == 3 { // see Rows
		first := graph.Reshape(graph.Slice(key, graph.AxisElem(2)))
		index = graph.Add(index, graph.Mul(first, graph.Const(g, uint32(shape.Size()/shape.Dimensions[0]))))
		key = graph.Slice(key, graph.AxisRange(0, 2))
	}
	stride := 1
	for axis := shape.Rank() - 1; axis >= 0; axis-- {
		index = graph.Add(index, graph.Mul(graph.Iota(g, shape, axis), graph.Const(g, uint32(stride))))
		stride *= shape.Dimensions[axis]
	}
	key0, key1 := words(key)
	return threefry(key0, key1, index, graph.Const(g, uint32(0)))
}
