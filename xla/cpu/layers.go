package cpu

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla/patch"
)

// Layers are layers without gradients, each nil where XLA's code is as fast. They return nil for shapes and dtypes that
// they do not take.
type Layers struct {
	Attention     func(q, k, v *Node, heads int) *Node
	Convolution   func(x, w, bias *Node, stride int, padding [2]int) *Node
	Normalization func(x, scale, shift *Node, groups int, epsilon float64, silu bool) *Node
}

func allFloat32(operands ...*Node) bool {
	return !slices.ContainsFunc(operands, func(x *Node) bool { return x.DType() != dtypes.Float32 })
}

// attend calls attention.
func attend(q, k, v *Node, heads int) *Node {
	// The most channels of a head. Keys and values of wider heads, packed, no longer fit a cache.
	const widest = 160
	queries, channels := q.Shape().Dim(1), q.Shape().Dim(2)
	if !allFloat32(q, k, v) || queries%quad != 0 || channels/heads > widest {
		return nil
	}
	return patch.Call(attention, fmt.Sprintf("{heads = %d : i64}", heads), []*Node{q, k, v}, q.Shape())
}

// convolve calls convolution.
func convolve(x, w, bias *Node, stride int, padding [2]int) *Node {
	size, out := w.Shape().Dim(0), w.Shape().Dim(3)
	around := padding[0] + padding[1]
	height, width := (x.Shape().Dim(1)+around-size)/stride+1, (x.Shape().Dim(2)+around-size)/stride+1
	unit := matrixUnit() && x.Shape().Dim(3)%convolveWide == 0
	operands := []*Node{x, w}
	if bias != nil {
		operands = append(operands, bias)
	}
	if !allFloat32(operands...) || out%convolveWide != 0 || !unit && width%quad != 0 {
		return nil
	}
	before := padding[0]
	if around > 0 && !unit {
		edge := PadAxis{Start: padding[0], End: padding[1]}
		operands[0], before = Pad(x, ScalarZero(x.Graph(), x.DType()), PadAxis{}, edge, edge), 0
	}
	attributes := fmt.Sprintf("{padding = %d : i64, stride = %d : i64}", before, stride)
	return patch.Call(convolution, attributes, operands,
		shapes.Make(dtypes.Float32, x.Shape().Dim(0), height, width, out))
}

// normalize calls normalization for x [batch, ..., channels].
func normalize(x, scale, shift *Node, groups int, epsilon float64, silu bool) *Node {
	batch, channels := x.Shape().Dim(0), x.Shape().Dim(-1)
	if !allFloat32(x, scale, shift) || channels%lanes != 0 {
		return nil
	}
	attributes := fmt.Sprintf("{epsilon = %e : f32, groups = %d : i64, silu = %d : i64}",
		epsilon, groups, map[bool]int{true: 1}[silu])
	flat := Reshape(x, batch, -1, channels)
	return Reshape(patch.Call(normalization, attributes, []*Node{flat, scale, shift}, flat.Shape()),
		x.Shape().Dimensions...)
}
