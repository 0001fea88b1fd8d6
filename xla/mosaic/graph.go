package mosaic

import (
	"math"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla/patch"
)

// Attend is multi-head attention: q [batch, queries, channels], k and v [batch, keys, channels], bfloat16, the channels
// split over heads; the result is like q. It is nil if there is no kernel for the shapes or the dtype. The batch may be
// divided over the devices.
func Attend(q, k, v *Node, heads int) *Node {
	batch, queries, channels := q.Shape().Dim(0), q.Shape().Dim(1), q.Shape().Dim(2)
	a := Attention{Heads: batch * heads, Width: channels / heads, Queries: queries, Keys: k.Shape().Dim(1)}
	if q.DType() != dtypes.BFloat16 || k.DType() != dtypes.BFloat16 || v.DType() != dtypes.BFloat16 || !a.Fits() {
		return nil
	}
	scale := 1 / math.Sqrt(float64(a.Width))
	in := []*Node{q, k, v}
	var gradients [3]*Node
	zero := ScalarZero(q.Graph(), q.DType())
	for i := range in {
		// One element of each input, times 0, is added to the output: through it the output's gradient leads to the
		// gradients that the kernels compute.
		input := IdentityWithCustomGradient(in[i], func(_, _ *Node) *Node { return gradients[i] })
		zero = Add(zero, MulScalar(Reshape(Slice(input, AxisElem(0), AxisElem(0), AxisElem(0))), 0))
		in[i] = byHead(StopGradient(in[i]), heads)
	}
	in[0] = MulScalar(in[0], scale)
	y, logs := a.forward(in)
	out := Add(tokens(y, batch), zero)
	return IdentityWithCustomGradient(out, func(_, dy *Node) *Node {
		dq, dk, dv := a.backward(in, byHead(dy, heads), y, logs)
		gradients = [3]*Node{MulScalar(tokens(dq, batch), scale), tokens(dk, batch), tokens(dv, batch)}
		return dy
	})
}

// byHead reshapes [batch, tokens, channels] to [batch·heads, width, tokens].
func byHead(x *Node, heads int) *Node {
	batch, n, channels := x.Shape().Dim(0), x.Shape().Dim(1), x.Shape().Dim(2)
	x = TransposeAllDims(Reshape(x, batch, n, heads, channels/heads), 0, 2, 3, 1)
	return Reshape(x, batch*heads, channels/heads, n)
}

// tokens reshapes [batch·heads, width, tokens] to [batch, tokens, channels].
func tokens(x *Node, batch int) *Node {
	heads, width, n := x.Shape().Dim(0)/batch, x.Shape().Dim(1), x.Shape().Dim(2)
	return Reshape(TransposeAllDims(Reshape(x, batch, heads, width, n), 0, 3, 1, 2), batch, n, heads*width)
}

// on is the attention's shapes on one of the devices.
func (a Attention) on(devices int) Attention {
	a.Heads /= devices
	return a
}

func (a Attention) shape(dtype dtypes.DType, rows, columns int) shapes.Shape {
	return shapes.Make(dtype, a.Heads, rows, columns)
}

// split splits keys or values into pieces of tokens.
func split(x *Node, pieces int) []*Node {
	if pieces == 1 {
		return []*Node{x}
	}
	n := x.Shape().Dim(2) / pieces
	parts := make([]*Node, pieces)
	for i := range parts {
		parts[i] = Slice(x, AxisRange(), AxisRange(), AxisRange(i*n, (i+1)*n))
	}
	return parts
}

// forward calls the forward kernel on [queries, keys, values], once for each piece of the keys, and merges the results.
func (a Attention) forward(in []*Node) (y, logs *Node) {
	pieces := a.forwardPieces()
	piece := a
	piece.Keys = a.Keys / pieces
	keys, values := split(in[1], pieces), split(in[2], pieces)
	var ys, ls []*Node
	for i := range pieces {
		out := patch.Kernel("attention", func(devices int) string { return piece.on(devices).Forward().Config() },
			[]*Node{in[0], keys[i], values[i]},
			[]shapes.Shape{a.shape(dtypes.BFloat16, a.Width, a.Queries), a.shape(dtypes.Float32, 1, a.Queries)})
		ys, ls = append(ys, out[0]), append(ls, out[1])
	}
	return merge(ys, ls)
}

// merge combines the attentions to pieces of the keys: the softmax over all keys weights each piece by its share of the
// divisor, exp(logs_i) / Σ exp(logs_j).
func merge(ys, ls []*Node) (y, logs *Node) {
	if len(ys) == 1 {
		return ys[0], ls[0]
	}
	most := ls[0]
	for _, l := range ls[1:] {
		most = Max(most, l)
	}
	sum, total := ZerosLike(most), ZerosLike(ConvertDType(ys[0], dtypes.Float32))
	for i, l := range ls {
		share := Exp(Sub(l, most))
		sum, total = Add(sum, share), Add(total, Mul(share, ConvertDType(ys[i], dtypes.Float32)))
	}
	return ConvertDType(Div(total, sum), ys[0].DType()), Add(most, Log(sum))
}

// backward calls the backward kernel, once for each piece of the keys. The gradients are bfloat16.
func (a Attention) backward(in []*Node, dy, y, logs *Node) (dq, dk, dv *Node) {
	pieces := a.backwardPieces()
	piece := a
	piece.Keys = a.Keys / pieces
	keys, values := split(in[1], pieces), split(in[2], pieces)
	sum := a.shape(dtypes.Float32, a.Width, piece.Keys)
	var dks, dvs []*Node
	for i := range pieces {
		out := patch.Kernel("attention_gradient",
			func(devices int) string { return piece.on(devices).Backward().Config() },
			[]*Node{in[0], keys[i], values[i], dy, y, logs},
			[]shapes.Shape{a.shape(dtypes.BFloat16, a.Width, a.Queries), sum, sum})
		if dq == nil {
			dq = out[0]
		} else {
			dq = Add(dq, out[0])
		}
		dks, dvs = append(dks, ConvertDType(out[1], dtypes.BFloat16)),
			append(dvs, ConvertDType(out[2], dtypes.BFloat16))
	}
	if pieces == 1 {
		return dq, dks[0], dvs[0]
	}
	return dq, Concatenate(dks, 2), Concatenate(dvs, 2)
}
