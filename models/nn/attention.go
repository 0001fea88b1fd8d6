package nn

import (
	"math"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// ScaledDotProduct is multi-head attention without projections (Vaswani et al. 2017, arXiv:1706.03762):
// q [batch, queries, channels], k and v [batch, keys, channels], the channels split over heads; the result is
// [batch, queries, channels] in v's dtype. mask, if not nil, broadcasts to [batch, heads, queries, keys] and is
// added to the float32 scores before the softmax.
func ScaledDotProduct(q, k, v *Node, heads int, mask *Node) *Node {
	batch, queries, channels := q.Shape().Dim(0), q.Shape().Dim(1), q.Shape().Dim(2)
	split := func(x *Node) *Node { return Reshape(x, batch, x.Shape().Dim(1), heads, channels/heads) }
	q, k, v = split(MulScalar(q, 1/math.Sqrt(float64(channels/heads)))), split(k), split(v)

	scores := DotGeneral(q, []int{3}, []int{0, 2}, k, []int{3}, []int{0, 2}) // [batch, heads, queries, keys]
	scores = ConvertDType(scores, dtypes.Float32)
	if mask != nil {
		scores = Add(scores, mask)
	}
	// Softmax, with its division after the product with v: there it is channels/keys as much work. The maximum only
	// guards against overflow, so no gradient flows through it.
	e := Exp(Sub(scores, StopGradient(ReduceAndKeep(scores, ReduceMax, -1))))
	sum := ReduceAndKeep(e, ReduceSum, -1)                                                         // [batch, heads, queries, 1]
	out := DotGeneral(ConvertDType(e, v.DType()), []int{3}, []int{0, 1}, v, []int{1}, []int{0, 2}) // [batch, heads, queries, channels/heads]
	out = Div(out, ConvertDType(sum, v.DType()))
	return Reshape(TransposeAllDims(out, 0, 2, 1, 3), batch, queries, channels)
}
