package patch

import (
	"reflect"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// dotSide is one operand of a DotGeneral.
type dotSide struct {
	x                         *graph.Node
	contracting, batch, cross []int // axes of x
}

// dotGeneralVJP is the gradient of DotGeneral as two DotGenerals, each followed by a transposition at most. GoMLX's
// own multiplies broadcast operands and sums: the same values for several times the work.
func dotGeneralVJP(node *graph.Node, vjps []*graph.Node, _ shapes.Shape) []*graph.Node {
	lhs := newDotSide(node, 0, "lhs")
	rhs := newDotSide(node, 1, "rhs")
	batch := axesFrom(0, len(lhs.batch))
	lhsCross := axesFrom(len(batch), len(lhs.cross))
	rhsCross := axesFrom(len(batch)+len(lhs.cross), len(rhs.cross))
	return []*graph.Node{
		dotOperandVJP(vjps[0], batch, lhsCross, rhsCross, lhs, rhs),
		dotOperandVJP(vjps[0], batch, rhsCross, lhsCross, rhs, lhs),
	}
}

func newDotSide(node *graph.Node, input int, prefix string) dotSide {
	s := dotSide{
		x:           node.Inputs()[input],
		contracting: intsOf(node, prefix+"ContractingAxes"),
		batch:       intsOf(node, prefix+"BatchAxes"),
	}
	for axis := range s.x.Rank() {
		if !slices.Contains(s.contracting, axis) && !slices.Contains(s.batch, axis) {
			s.cross = append(s.cross, axis)
		}
	}
	return s
}

// dotOperandVJP returns the gradient of one operand, in its shape. v is the gradient of the product, whose axes are
// the batch, then the cross axes of both: thisCross are this operand's and otherCross the other's.
func dotOperandVJP(v *graph.Node, batch, thisCross, otherCross []int, this, other dotSide) *graph.Node {
	// Summing over the other's cross axes leaves the batch, this operand's cross axes from v, and its contracting
	// axes from the other operand, in the order that they have there.
	sorted := slices.Sorted(slices.Values(other.contracting))
	vFirst := make([]int, this.x.Rank())
	otherFirst := make([]int, this.x.Rank())
	for i, axis := range this.batch {
		vFirst[axis], otherFirst[axis] = i, i
	}
	for i, axis := range this.cross {
		vFirst[axis] = len(batch) + i
		otherFirst[axis] = len(batch) + len(this.contracting) + i
	}
	for i, axis := range this.contracting {
		at := slices.Index(sorted, other.contracting[i])
		vFirst[axis] = len(batch) + len(thisCross) + at
		otherFirst[axis] = len(batch) + at
	}
	if slices.IsSorted(otherFirst) {
		return graph.DotGeneral(other.x, other.cross, other.batch, v, otherCross, batch)
	}
	grad := graph.DotGeneral(v, otherCross, batch, other.x, other.cross, other.batch)
	if slices.IsSorted(vFirst) {
		return grad
	}
	return graph.TransposeAllAxes(grad, vFirst...)
}

// axesFrom returns n consecutive axes from start.
func axesFrom(start, n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = start + i
	}
	return s
}

// inputsOf returns an unexported field of a node's static inputs. It panics, as graph building does, if GoMLX keeps
// them otherwise.
func inputsOf(node *graph.Node, name string, kind reflect.Kind) reflect.Value {
	inputs, err := field(reflect.ValueOf(node), "inputs", reflect.Interface)
	if err != nil {
		panic(err)
	}
	f, err := field(inputs, name, kind)
	if err != nil {
		panic(err)
	}
	return f
}

// intsOf returns a slice of integers from a node's static inputs.
func intsOf(node *graph.Node, name string) []int {
	f := inputsOf(node, name, reflect.Slice)
	ints := make([]int, f.Len())
	for i := range ints {
		ints[i] = int(f.Index(i).Int())
	}
	return ints
}
