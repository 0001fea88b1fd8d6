package xla

import (
	"fmt"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla/patch"
	"limner/xla/pjrt"
)

// forward are kernels through which no gradient flows. They return nil for shapes and dtypes that they do not take.
type forward struct {
	attention   attentionKernel
	convolution func(x, w *Node, stride int, padding [2]int) *Node
}

// ForwardAttention is AttentionKernel for where no gradient is asked for; nil where there is none.
func (b *Backend) ForwardAttention() func(q, k, v *Node, heads int) *Node {
	if b.attention != nil {
		return b.attention
	}
	return b.forward.attention
}

// ForwardConvolution is a convolution of x [batch, rows, columns, in] by w [size, size, in, out] with zeros around both axes, as many (before, after). It
// returns nil for shapes and dtypes that it does not take, and no gradient flows through it. It is nil where XLA's own is as fast.
func (b *Backend) ForwardConvolution() func(x, w *Node, stride int, padding [2]int) *Node {
	return b.forward.convolution
}

// chooseForward takes our own functions where they are faster than what XLA makes. What they are given lies on one device.
func (b *Backend) chooseForward() {
	if b.n == 1 && b.table.RegisterFunctions() == nil && pjrt.WideVectors() {
		b.forward = forward{attend, convolve}
	}
}

// attend calls pjrt.Attend.
func attend(q, k, v *Node, heads int) *Node {
	const widest = 160 // channels of a head: of wider ones, with as many keys, the packed keys and values are no longer in a cache
	queries, channels := q.Shape().Dim(1), q.Shape().Dim(2)
	if q.DType() != dtypes.Float32 || k.DType() != dtypes.Float32 || v.DType() != dtypes.Float32 || queries%pjrt.Quad != 0 || channels/heads > widest {
		return nil
	}
	return patch.Call(pjrt.Attend, fmt.Sprintf("{heads = %d : i64}", heads), []*Node{q, k, v}, q.Shape())
}

// convolve calls pjrt.Convolve.
func convolve(x, w *Node, stride int, padding [2]int) *Node {
	size, out := w.Shape().Dim(0), w.Shape().Dim(3)
	around := padding[0] + padding[1]
	height, width := (x.Shape().Dim(1)+around-size)/stride+1, (x.Shape().Dim(2)+around-size)/stride+1
	if x.DType() != dtypes.Float32 || w.DType() != dtypes.Float32 || out%pjrt.ConvolveWide != 0 || width%pjrt.Quad != 0 {
		return nil
	}
	if around > 0 {
		edge := PadAxis{Start: padding[0], End: padding[1]}
		x = Pad(x, ScalarZero(x.Graph(), x.DType()), PadAxis{}, edge, edge)
	}
	return patch.Call(pjrt.Convolve, fmt.Sprintf("{stride = %d : i64}", stride), []*Node{x, w}, shapes.Make(dtypes.Float32, x.Shape().Dim(0), height, width, out))
}
