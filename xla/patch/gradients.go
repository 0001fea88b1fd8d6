package patch

import (
	"reflect"
	"sync"

	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// RegisterGradients gives GoMLX the gradients that it lacks (Rsqrt, Expm1, Pad, Reverse, Identity; zero for Floor,
// Ceil, Round and Sign) and replaces that of DotGeneral. It may be called any number of times, before the first
// Gradient and not while one is being built.
func RegisterGradients() {
	register.Do(func() {
		VJPRegistration[NodeTypeDotGeneral] = dotGeneralVJP
		VJPRegistration[NodeTypeRsqrt] = rsqrtVJP
		VJPRegistration[NodeTypeExpm1] = expm1VJP
		VJPRegistration[NodeTypePad] = padVJP
		VJPRegistration[NodeTypeReverse] = reverseVJP
		VJPRegistration[NodeTypeIdentity] = identityVJP
		for _, step := range []NodeType{NodeTypeFloor, NodeTypeCeil, NodeTypeRound, NodeTypeSign} {
			VJPRegistration[step] = zeroVJP
		}
	})
}

var register sync.Once

// d(x^-½)/dx = -½·x^-3/2
func rsqrtVJP(node *Node, vjps []*Node, _ shapes.Shape) []*Node {
	return []*Node{Mul(vjps[0], MulScalar(Mul(node, Square(node)), -0.5))}
}

// d(e^x-1)/dx = e^x
func expm1VJP(node *Node, vjps []*Node, _ shapes.Shape) []*Node {
	return []*Node{Mul(vjps[0], Exp(node.Inputs()[0]))}
}

func reverseVJP(node *Node, vjps []*Node, _ shapes.Shape) []*Node {
	return []*Node{Reverse(vjps[0], intsOf(node, "axes")...)}
}

func identityVJP(_ *Node, vjps []*Node, _ shapes.Shape) []*Node {
	return vjps
}

// zeroVJP stops the gradient, as of a function that is constant but for its steps.
func zeroVJP(node *Node, _ []*Node, _ shapes.Shape) []*Node {
	return make([]*Node, len(node.Inputs()))
}

// padVJP takes the padding away again. What falls on the padding is the gradient of its value.
func padVJP(node *Node, vjps []*Node, _ shapes.Shape) []*Node {
	v, x := vjps[0], node.Inputs()[0]
	g := node.Graph()
	axes := inputsOf(node, "axesConfig", reflect.Slice)
	crop := make([]PadAxis, x.Rank())
	every := make([]SliceAxisSpec, x.Rank())
	for axis := range every {
		every[axis] = AxisRange()
	}
	for axis := range axes.Len() {
		c := axes.Index(axis)
		crop[axis] = PadAxis{Start: -int(c.FieldByName("Start").Int()), End: -int(c.FieldByName("End").Int())}
		if interior := int(c.FieldByName("Interior").Int()); interior > 0 {
			every[axis] = every[axis].Stride(interior + 1)
		}
	}
	grad := Slice(Pad(v, ScalarZero(g, v.DType()), crop...), every...)
	return []*Node{grad, Sub(ReduceAllSum(v), ReduceAllSum(grad))}
}
