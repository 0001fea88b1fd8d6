package sample

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/unet"
)

// Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598) computes the unconditional and the conditional
// prediction of n images as one batch of 2n: row 2i of the text is image i's negative prompt, row 2i+1 its prompt. The
// two stand next to each other, so that an image stays on its device when the batch is divided over several. Latents,
// timesteps and conditions have n rows: the networks compute for both halves at once what comes before the text.

// half takes the unconditional (0) or the conditional (1) rows of x [2n, ...].
func half(x *Node, which int) *Node {
	n, rest := x.Shape().Dim(0)/2, x.Shape().Dimensions[1:]
	pairs := Reshape(x, append([]int{n, 2}, rest...)...)
	return Reshape(Slice(pairs, AxisRange(), AxisElem(which)), append([]int{n}, rest...)...)
}

// conditional is what the network is told of the prompts beside the projections of their text, without the negative
// ones.
func conditional(c unet.Context) unet.Context {
	if c.Pooled != nil {
		c.Pooled, c.TimeIDs = half(c.Pooled, 1), half(c.TimeIDs, 1)
	}
	return c
}

// withUnconditionalZeros maps residuals x [n, ...] of the conditional rows to [2n, ...].
func withUnconditionalZeros(x *Node) *Node {
	dims := append([]int{2 * x.Shape().Dim(0)}, x.Shape().Dimensions[1:]...)
	return Reshape(Stack([]*Node{ZerosLike(x), x}, 1), dims...)
}

// guide maps the predictions [2n, ...] to [n, ...]: ε = ε_uncond + scale·(ε_cond - ε_uncond). scale is a scalar. With a
// share φ, not nil, the result is rescaled that far to the standard deviation that ε_cond has in its image (Lin et al.
// 2023, arXiv:2305.08891, section 3.4).
func guide(prediction, scale, φ *Node) *Node {
	uncond, cond := half(prediction, 0), half(prediction, 1)
	guided := Add(uncond, Mul(scale, Sub(cond, uncond)))
	if φ == nil {
		return guided
	}
	rescaled := Mul(guided, Div(deviation(cond), deviation(guided)))
	return Add(Mul(φ, rescaled), Mul(OneMinus(φ), guided))
}

// rescale is the share φ of guide, or nil.
func rescale(wanted bool, guidance *Node) *Node {
	if !wanted {
		return nil
	}
	return Reshape(Slice(guidance, AxisElem(1)))
}

// deviation is the standard deviation of each image of x [n, height, width, channels], as [n, 1, 1, 1]. As in torch,
// the sum of squares is divided by one less than their number.
func deviation(x *Node) *Node {
	values := float64(x.Shape().Size()/x.Shape().Dim(0) - 1)
	centred := Sub(x, ReduceAndKeep(x, ReduceMean, 1, 2, 3))
	return Sqrt(DivScalar(ReduceAndKeep(Square(centred), ReduceSum, 1, 2, 3), values))
}

// guided says whether a guidance scale needs the unconditional prediction. At 1 the result is the conditional one, and
// below 1 diffusers leaves guidance out too.
func guided(scale float64) bool { return scale > 1 }
