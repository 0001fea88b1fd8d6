package optim

import (
	"math"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// Block-wise quantisation to 8 bits (Dettmers et al. 2022, arXiv:2110.02861): a block of 256 numbers is kept as its
// largest size, and as codes for the ratios to that. The ratios that have codes are those of the paper's dynamic data
// type: 0, 1, and in each of the seven decades below 1 the middles of equal parts, whose number doubles from decade to
// decade. A decade's codes stand one after another from the number of its parts on, so that no table is needed.
const (
	blockSize = 256
	decades   = 7
)

// signedness says whether the ratios have a sign. Those that have one have half as many parts in each decade, and no
// -1.
type signedness bool

const (
	unsigned signedness = false
	signed   signedness = true
)

// parts of a decade, counted from the lowest.
func (s signedness) parts(decade int) float64 {
	if s == signed {
		return math.Ldexp(1, decade)
	}
	return math.Ldexp(1, decade+1)
}

// one is the code of 1, and half that of the first negative number.
func (s signedness) one() float64 {
	if s == signed {
		return 128
	}
	return 1
}

// middle is the ratio in the middle of a part of a decade.
func (s signedness) middle(decade int, part float64) float64 {
	return math.Pow10(decade-decades+1) * (0.1 + 0.9*(part+0.5)/s.parts(decade))
}

// blocksOf is the number of blocks for so many elements.
func blocksOf(size int) int { return (size + blockSize - 1) / blockSize }

// quantize gives the codes uint8 [blocks, 256] and the largest size float32 [blocks] of the blocks of x, float32, in
// row-major order.
func quantize(x *Node, sign signedness) (codes, absmax *Node) {
	g, size := x.Graph(), x.Shape().Size()
	blocks := blocksOf(size)
	x = Reshape(x, size)
	if missing := blocks*blockSize - size; missing > 0 {
		x = Concatenate([]*Node{x, Zeros(g, shapes.Make(dtypes.Float32, missing))}, 0)
	}
	x = Reshape(x, blocks, blockSize)
	absmax = ReduceMax(Abs(x), 1)
	ratio := Div(x, InsertAxes(Where(Equal(absmax, ZerosLike(absmax)), OnesLike(absmax), absmax), 1))
	return ConvertDType(nearestCode(ratio, sign), dtypes.Uint8), absmax
}

// nearestCode is the code, a whole number in float32, of the ratio that is nearest to x, in [-1, 1].
func nearestCode(x *Node, sign signedness) *Node {
	reaches := func(x *Node, low, high float64) *Node {
		return GreaterOrEqual(x, Scalar(x.Graph(), x.DType(), (low+high)/2))
	}
	a := Abs(x)
	parts, scale := MulScalar(OnesLike(a), sign.parts(0)), MulScalar(OnesLike(a), math.Pow10(1-decades))
	for decade := 1; decade < decades; decade++ {
		in := reaches(a, sign.middle(decade-1, sign.parts(decade-1)-1), sign.middle(decade, 0))
		parts = Where(in, Scalar(a.Graph(), a.DType(), sign.parts(decade)), parts)
		scale = Where(in, Scalar(a.Graph(), a.DType(), math.Pow10(decade-decades+1)), scale)
	}
	part := Floor(Mul(DivScalar(AddScalar(Div(a, scale), -0.1), 0.9), parts))
	part = Max(Min(part, AddScalar(parts, -1)), ZerosLike(part))
	code := Add(parts, part)
	if sign == signed {
		code = Where(LessThan(x, ZerosLike(x)), AddScalar(code, sign.one()), code)
	}
	code = Where(reaches(a, 0, sign.middle(0, 0)), code, ZerosLike(code))
	one := reaches(x, sign.middle(decades-1, sign.parts(decades-1)-1), 1)
	return Where(one, Scalar(a.Graph(), a.DType(), sign.one()), code)
}

// dequantize is what quantize's codes stand for: float32 of the given shape.
func dequantize(codes, absmax *Node, shape shapes.Shape, sign signedness) *Node {
	x := Mul(ratioOf(ConvertDType(codes, dtypes.Float32), sign), InsertAxes(absmax, 1))
	x = Reshape(x, -1)
	if x.Shape().Size() > shape.Size() {
		x = Slice(x, AxisRange(0, shape.Size()))
	}
	return Reshape(x, shape.Dimensions...)
}

// ratioOf is the ratio that a code in float32 stands for.
func ratioOf(code *Node, sign signedness) *Node {
	scalar := func(v float64) *Node { return Scalar(code.Graph(), code.DType(), v) }
	at, negative := code, (*Node)(nil)
	if sign == signed {
		negative = GreaterThan(code, scalar(sign.one()))
		at = Where(negative, AddScalar(code, -sign.one()), code)
	}
	parts, scale := MulScalar(OnesLike(at), sign.parts(0)), MulScalar(OnesLike(at), math.Pow10(1-decades))
	for decade := 1; decade < decades; decade++ {
		in := GreaterOrEqual(at, scalar(sign.parts(decade)))
		parts = Where(in, scalar(sign.parts(decade)), parts)
		scale = Where(in, scalar(math.Pow10(decade-decades+1)), scale)
	}
	ratio := Mul(scale, AddScalar(MulScalar(Div(AddScalar(Sub(at, parts), 0.5), parts), 0.9), 0.1))
	if sign == signed {
		ratio = Where(negative, Neg(ratio), ratio)
	}
	ratio = Where(Equal(code, scalar(0)), scalar(0), ratio)
	return Where(Equal(code, scalar(sign.one())), scalar(1), ratio)
}
