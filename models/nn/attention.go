package nn

import (
	"math"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// maxScores is how many attention scores are computed at once: 256 MB of float32. Where there are more, as among the
// 4096 latents of a 512-pixel image, the queries are split into parts, so that not all scores are in memory at once.
const maxScores = 1 << 26

// ScaledDotProduct is multi-head attention without projections (Vaswani et al. 2017, arXiv:1706.03762):
// q [batch, queries, channels], k and v [batch, keys, channels], the channels split over heads; the result is
// [batch, queries, channels] in v's dtype. mask, if not nil, broadcasts to [batch, heads, queries, keys] and is
// added to the float32 scores before the softmax.
//
// Where p has an attention kernel that takes the shapes, the kernel computes it.
func ScaledDotProduct(p Params, q, k, v *Node, heads int, mask *Node) *Node {
	if kernel := p.source.kernels.Attention; kernel != nil && mask == nil {
		if y := kernel(q, k, v, heads); y != nil {
			return y
		}
	}
	return attention(q, k, v, heads, mask, maxScores)
}

// attention is ScaledDotProduct with at most the given number of scores at once, or those of one query.
func attention(q, k, v *Node, heads int, mask *Node, most int) *Node {
	batch, queries, channels := q.Shape().Dim(0), q.Shape().Dim(1), q.Shape().Dim(2)
	split := func(x *Node) *Node { return Reshape(x, batch, x.Shape().Dim(1), heads, channels/heads) }
	q, k, v = split(MulScalar(q, 1/math.Sqrt(float64(channels/heads)))), split(k), split(v)

	size := partSize(queries, batch*heads*k.Shape().Dim(1), most)
	if size == queries || mask != nil {
		return Reshape(attend(q, k, v, mask), batch, queries, channels)
	}
	var parts []*Node
	for at := 0; at < queries; at += size {
		parts = append(parts, attend(Slice(q, AxisRange(), AxisRange(at, min(at+size, queries))), k, v, nil))
	}
	return Reshape(Concatenate(parts, 1), batch, queries, channels)
}

// partSize is how many queries to take at once if each has the given number of scores: all of them if their scores are
// at most most, else one of equal parts, or of about equal ones where no good number of parts divides them.
func partSize(queries, scores, most int) int {
	parts := (queries*scores + most - 1) / most
	for n := parts; n < 2*parts && n <= queries; n++ {
		if queries%n == 0 {
			return queries / n
		}
	}
	return max(1, queries/parts)
}

// attend maps q [batch, queries, heads, width], k and v [batch, keys, heads, width] to [batch, queries, heads, width].
func attend(q, k, v, mask *Node) *Node {
	scores := DotGeneral(q, []int{3}, []int{0, 2}, k, []int{3}, []int{0, 2}) // [batch, heads, queries, keys]
	scores = ConvertDType(scores, dtypes.Float32)
	if mask != nil {
		scores = Add(scores, mask)
	}
	// Softmax, with its division after the product with v: there it is channels/keys as much work. The maximum only
	// guards against overflow, so no gradient flows through it.
	e := Exp(Sub(scores, StopGradient(ReduceAndKeep(scores, ReduceMax, -1))))
	sum := ReduceAndKeep(e, ReduceSum, -1) // [batch, heads, queries, 1]
	e = ConvertDType(e, v.DType())
	out := DotGeneral(e, []int{3}, []int{0, 1}, v, []int{1}, []int{0, 2}) // [batch, heads, queries, width]
	out = Div(out, ConvertDType(sum, v.DType()))
	return TransposeAllDims(out, 0, 2, 1, 3)
}
