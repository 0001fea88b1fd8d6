package nn

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// Linear is torch's nn.Linear: x [..., in] to [..., out] with weight [in, out] and bias [out], in x's dtype.
func Linear(p Params, x *Node, out int) *Node {
	in := x.Shape().Dim(-1)
	w := p.Param("weight", Dense, InitUniform, in, in, out)
	b := p.Param("bias", Vector, InitZeros, in, out)
	return p.Out(p.adapt(x, p.linear(x, w, b), p.matmul))
}

// LinearNoBias is Linear without a bias: the projections q, k and v of attention.
func LinearNoBias(p Params, x *Node, out int) *Node {
	if given := p.source.outputs[p.prefix]; given != nil {
		return p.Out(given)
	}
	in := x.Shape().Dim(-1)
	return p.Out(p.adapt(x, p.matmul(x, p.Param("weight", Dense, InitUniform, in, in, out)), p.matmul))
}

// matmul contracts the last axis of x with the first of w, in x's dtype.
func (p Params) matmul(x, w *Node) *Node { return p.linear(x, w, nil) }

// linear is matmul plus b, which may be nil. A convolution kernel, where p has one, computes it as a 1×1 convolution of
// a line of pixels, one for each token.
func (p Params) linear(x, w, b *Node) *Node {
	w = ConvertDType(w, x.DType())
	if kernel := p.source.kernels.Convolution; kernel != nil && x.Rank() == 3 {
		if y := kernel(InsertAxes(x, 1), InsertAxes(w, 0, 0), b, 1, [2]int{}); y != nil {
			return Squeeze(y, 1)
		}
	}
	return addBias(DotGeneral(x, []int{-1}, nil, w, []int{0}, nil), b)
}

// addBias adds b [channels], if it is not nil, to the last axis of x.
func addBias(x, b *Node) *Node {
	if b == nil {
		return x
	}
	return Add(x, ExpandLeftToRank(ConvertDType(b, x.DType()), x.Rank()))
}

// SiLU is x·σ(x).
func SiLU(x *Node) *Node { return Mul(x, Sigmoid(x)) }

// GELU is the exact Gaussian error linear unit, x·Φ(x) (Hendrycks and Gimpel 2016, arXiv:1606.08415).
func GELU(x *Node) *Node {
	const sqrtHalf = 0.7071067811865476
	return Mul(MulScalar(x, 0.5), AddScalar(Erf(MulScalar(x, sqrtHalf)), 1))
}

// QuickGELU is OpenAI CLIP's approximation, x·σ(1.702·x).
func QuickGELU(x *Node) *Node { return Mul(x, Sigmoid(MulScalar(x, 1.702))) }
