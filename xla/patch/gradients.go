package patch

import (
	"reflect"
	"sync"

	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// RegisterGradients gives GoMLX the gradients that it lacks (Rsqrt, Expm1, Pad, Reverse, Identity; zero for Floor,
// Ceil, Round and Sign) and replaces that of DotGeneral. It may be called any number of times, before the first
// Gradient and not while one is being built.
func RegisterGradients() {
	register.Do(func() {
		graph.VJPRegistration[graph.NodeTypeDotGeneral] = dotGeneralVJP
		graph.VJPRegistration[graph.NodeTypeRsqrt] = rsqrtVJP
		graph.VJPRegistration[graph.NodeTypeExpm1] = expm1VJP
		graph.VJPRegistration[graph.NodeTypePad] = padVJP
		graph.VJPRegistration[graph.NodeTypeReverse] = reverseVJP
		graph.VJPRegistration[graph.NodeTypeIdentity] = identityVJP
		for _, step := range []graph.NodeType{
			graph.NodeTypeFloor, graph.NodeTypeCeil, graph.NodeTypeRound, graph.NodeTypeSign,
		} {
			graph.VJPRegistration[step] = zeroVJP
		}
	})
}

var register sync.Once

// d(x^-½)/dx = -½·x^-3/2
func rsqrtVJP(node *graph.Node, vjps []*graph.Node, _ shapes.Shape) []*graph.Node {
	return []*graph.Node{graph.Mul(vjps[0], graph.MulScalar(graph.Mul(node, graph.Square(node)), -0.5))}
}

// d(e^x-1)/dx = e^x
func expm1VJP(node *graph.Node, vjps []*graph.Node, _ shapes.Shape) []*graph.Node {
	return []*graph.Node{graph.Mul(vjps[0], graph.Exp(node.Inputs()[0]))}
}

func reverseVJP(node *graph.Node, vjps []*graph.Node, _ shapes.Shape) []*graph.Node {
	return []*graph.Node{graph.Reverse(vjps[0], intsOf(node, "axes")...)}
}

func identityVJP(_ *graph.Node, vjps []*graph.Node, _ shapes.Shape) []*graph.Node {
	return vjps
}

// zeroVJP stops the gradient, as of a function that is constant but for its steps.
func zeroVJP(node *graph.Node, _ []*graph.Node, _ shapes.Shape) []*graph.Node {
	return make([]*graph.Node, len(node.Inputs()))
}

// padVJP takes the padding away again. What falls on the padding is the gradient of its value.
func padVJP(node *graph.Node, vjps []*graph.Node, _ shapes.Shape) []*graph.Node {
	v, x := vjps[0], node.Inputs()[0]
	g := node.Graph()
	axes := inputsOf(node, "axesConfig", reflect.Slice)
	crop := make([]graph.PadAxis, x.Rank())
	every := make([]graph.SliceAxisSpec, x.Rank())
	for axis := range every {
		every[axis] = graph.AxisRange()
	}
	for axis := range axes.Len() {
		c := axes.Index(axis)
		crop[axis] = graph.PadAxis{Start: -int(c.FieldByName("Start").Int()), End: -int(c.FieldByName("End").Int())}
		if interior := int(c.FieldByName("Interior").Int()); interior > 0 {
			every[axis] = every[axis].Stride(interior + 1)
		}
	}
	grad := graph.Slice(graph.Pad(v, graph.ScalarZero(g, v.DType()), crop...), every...)
	return []*graph.Node{grad, graph.Sub(graph.ReduceAllSum(v), graph.ReduceAllSum(grad))}
}
