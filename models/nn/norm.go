package nn

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// GroupNorm normalises x [batch, height, width, channels] over each group of neighbouring channels of an image
// (Wu and He 2018, arXiv:1803.08494), with statistics in float32, then scales and shifts each channel.
// The result has x's shape and dtype.
func GroupNorm(p Params, x *Node, groups int, eps float64) *Node {
	return p.Out(groupNorm(p, x, groups, eps, false))
}

// GroupNormSiLU is SiLU of GroupNorm.
func GroupNormSiLU(p Params, x *Node, groups int, eps float64) *Node {
	if p.source.probe != nil { // it is called with the norm's output, too
		return SiLU(GroupNorm(p, x, groups, eps))
	}
	return groupNorm(p, x, groups, eps, true)
}

func groupNorm(p Params, x *Node, groups int, eps float64, silu bool) *Node {
	x.AssertRank(4)
	n, h, w, c := x.Shape().Dim(0), x.Shape().Dim(1), x.Shape().Dim(2), x.Shape().Dim(3)
	scale := p.Param("weight", Vector, InitOnes, 0, c)
	shift := p.Param("bias", Vector, InitZeros, 0, c)
	if kernel := p.source.kernels.Normalization; kernel != nil {
		if y := kernel(x, scale, shift, groups, eps, silu); y != nil {
			return y
		}
	}
	y := ConvertDType(x, dtypes.Float32)
	if x.DType() == dtypes.Float32 {
		y = Reshape(standardise(Reshape(y, n, h*w, groups, c/groups), eps, 1, 3), n, h, w, c)
		y = affine(y, scale, shift)
	} else {
		y = groupNormOnce(y, scale, shift, groups, eps)
	}
	y = ConvertDType(y, x.DType())
	if silu {
		y = SiLU(y)
	}
	return y
}

// groupNormOnce is GroupNorm that reads x once for its statistics, with σ² = E[x²]-μ². In float32 that loses about
// 2^-24·μ² of σ²; rounding x to 16 bits has already changed σ² by more.
func groupNormOnce(x, scale, shift *Node, groups int, eps float64) *Node {
	n, c := x.Shape().Dim(0), x.Shape().Dim(3)
	mean := func(v *Node) *Node { // of each group, [batch, groups, 1]
		return ReduceAndKeep(Reshape(ReduceMean(v, 1, 2), n, groups, c/groups), ReduceMean, 2)
	}
	mu := mean(x)
	variance := MaxScalar(Sub(mean(Square(x)), Square(mu)), 0)
	grouped := func(v *Node) *Node { return Reshape(ConvertDType(v, dtypes.Float32), 1, groups, c/groups) }
	factor := Mul(Rsqrt(AddScalar(variance, eps)), grouped(scale))
	offset := Sub(grouped(shift), Mul(mu, factor))
	return Add(Mul(x, Reshape(factor, n, 1, 1, c)), Reshape(offset, n, 1, 1, c))
}

// LayerNorm normalises the last axis of x [..., channels] (Ba et al. 2016, arXiv:1607.06450), with statistics in
// float32, then scales and shifts it. The result has x's shape and dtype.
func LayerNorm(p Params, x *Node, eps float64) *Node {
	c := x.Shape().Dim(-1)
	scale := p.Param("weight", Vector, InitOnes, 0, c)
	shift := p.Param("bias", Vector, InitZeros, 0, c)
	if kernel := p.source.kernels.Normalization; kernel != nil {
		if y := kernel(Reshape(x, -1, c), scale, shift, 1, eps, false); y != nil {
			return p.Out(Reshape(y, x.Shape().Dimensions...))
		}
	}
	y := standardise(ConvertDType(x, dtypes.Float32), eps, -1)
	return p.Out(ConvertDType(affine(y, scale, shift), x.DType()))
}

// standardise gives x mean 0 and variance 1 over the axes: (x-μ)/√(σ²+ε).
func standardise(x *Node, eps float64, axes ...int) *Node {
	centred := Sub(x, ReduceAndKeep(x, ReduceMean, axes...))
	variance := ReduceAndKeep(Square(centred), ReduceMean, axes...)
	return Mul(centred, Rsqrt(AddScalar(variance, eps)))
}

// affine scales and shifts the last axis of x, in float32.
func affine(x, scale, shift *Node) *Node {
	scale, shift = ConvertDType(scale, dtypes.Float32), ConvertDType(shift, dtypes.Float32)
	return Add(Mul(x, ExpandLeftToRank(scale, x.Rank())), ExpandLeftToRank(shift, x.Rank()))
}
