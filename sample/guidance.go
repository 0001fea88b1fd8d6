package sample

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598) computes the unconditional and the conditional
// prediction of n images as one batch of 2n. The two rows of an image stand next to each other, so that an image stays on
// its device when the batch is divided over several.

// duplicate maps x [n, ...] to [2n, ...]: row i of x becomes rows 2i (unconditional) and 2i+1 (conditional).
func duplicate(x *Node) *Node {
	dims := append([]int{2 * x.Shape().Dim(0)}, x.Shape().Dimensions[1:]...)
	return Reshape(Stack([]*Node{x, x}, 1), dims...)
}

// guide maps the predictions [2n, ...] to [n, ...]: ε = ε_uncond + scale·(ε_cond - ε_uncond). scale is a scalar.
func guide(prediction, scale *Node) *Node {
	n, rest := prediction.Shape().Dim(0)/2, prediction.Shape().Dimensions[1:]
	pairs := Reshape(prediction, append([]int{n, 2}, rest...)...)
	half := func(i int) *Node {
		return Reshape(Slice(pairs, AxisRange(), AxisElem(i)), append([]int{n}, rest...)...)
	}
	uncond, cond := half(0), half(1)
	return Add(uncond, Mul(scale, Sub(cond, uncond)))
}

// guided says whether a guidance scale needs the unconditional prediction. At 1 the result is the conditional one, and
// below 1 diffusers leaves guidance out too.
func guided(scale float64) bool { return scale > 1 }
