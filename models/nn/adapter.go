package nn

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// Adapter changes a linear layer or a convolution by a product of low rank (Hu et al. 2021, arXiv:2106.09685):
// y += Scale·up(down(x)), in x's dtype.
type Adapter struct {
	Down  *Node // [in, rank] or, of a convolution, [height, width, in, rank]
	Up    *Node // [rank, out] or [1, 1, rank, out]
	Scale *Node // scalar
	// Dropout is applied to x before Down when training; nil leaves x as it is.
	Dropout func(x *Node) *Node
}

// WithAdapters returns p with adapters on the layers below it. The keys are the names of the layers' weights from the
// root of the tree, without .weight. A layer may have several.
func (p Params) WithAdapters(adapters map[string][]Adapter) Params {
	s := *p.source
	s.adapters = adapters
	return Params{prefix: p.prefix, source: &s}
}

// adapt adds the layer's adapters, applied to x, to its output y. apply is how the layer multiplies by a weight.
func (p Params) adapt(x, y *Node, apply func(x, w *Node) *Node) *Node {
	for _, a := range p.source.adapters[p.prefix] {
		if p.source.note != nil {
			p.source.note(a.Down)
			p.source.note(a.Up)
			p.source.note(a.Scale)
		}
		h := x
		if a.Dropout != nil {
			h = a.Dropout(h)
		}
		h = apply(h, ConvertDType(a.Down, x.DType()))
		h = DotGeneral(h, []int{-1}, nil, Reshape(ConvertDType(a.Up, x.DType()), -1, a.Up.Shape().Dim(-1)),
			[]int{0}, nil)
		y = Add(y, Mul(h, ConvertDType(a.Scale, x.DType())))
	}
	return y
}
