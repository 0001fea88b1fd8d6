package nn

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// Conv2D is torch's nn.Conv2d at stride 1 that keeps the size: x [batch, height, width, in] to
// [batch, height, width, out], kernel [size, size, in, out] with odd size, in x's dtype.
func Conv2D(p Params, x *Node, out, size int) *Node {
	pad := size / 2
	return conv(p, x, out, size, 1, [2]int{pad, pad}, InitUniform)
}

// Conv2DStrided is Conv2D with a stride and the padding (before, after) of both axes.
func Conv2DStrided(p Params, x *Node, out, size, stride int, padding [2]int) *Node {
	return conv(p, x, out, size, stride, padding, InitUniform)
}

// ZeroConv2D is a 1×1 Conv2D that starts from zeros (Zhang et al. 2023, arXiv:2302.05543), so that a fresh
// ControlNet leaves the UNet as it is.
func ZeroConv2D(p Params, x *Node, out int) *Node {
	return conv(p, x, out, 1, 1, [2]int{}, InitZeros)
}

// ZeroConv2D3x3 is a 3×3 Conv2D that starts from zeros: the last one of the conditioning embedding.
func ZeroConv2D3x3(p Params, x *Node, out int) *Node {
	return conv(p, x, out, 3, 1, [2]int{1, 1}, InitZeros)
}

func conv(p Params, x *Node, out, size, stride int, padding [2]int, init Init) *Node {
	x.AssertRank(4)
	in := x.Shape().Dim(-1)
	fanIn := size * size * in
	w := p.Param("weight", Kernel, init, fanIn, size, size, in, out)
	b := p.Param("bias", Vector, InitZeros, fanIn, out)
	convolve := func(x, w, b *Node) *Node {
		w = ConvertDType(w, x.DType())
		if height, width := convolved(x, size, stride, padding); height*width < size*size {
			return addBias(convolveTaps(x, w, stride, padding), b)
		}
		if kernel := p.source.kernels.Convolution; kernel != nil {
			if y := kernel(x, w, b, stride, padding); y != nil {
				return y
			}
		}
		return addBias(Convolve(x, w).Strides(stride).PaddingPerDim([][2]int{padding, padding}).Done(), b)
	}
	return p.Out(p.adapt(x, convolve(x, w, b), func(x, w *Node) *Node { return convolve(x, w, nil) }))
}

// convolved gives the height and width of a convolution's result.
func convolved(x *Node, size, stride int, padding [2]int) (height, width int) {
	long := padding[0] + padding[1] - size
	return (x.Shape().Dim(1)+long)/stride + 1, (x.Shape().Dim(2)+long)/stride + 1
}

// convolveTaps is a convolution as a batch of matrix products, one for each element of the kernel (a tap): the pixels
// that the tap meets times its weights, summed over taps at the end. It is for results with fewer pixels than the
// kernel has elements: on CPUs XLA computes those convolutions, or their gradients, by a loop over single numbers, at 1
// to 8 GFLOP/s.
//
// The pixels are selected by a product too, with a matrix of ones and zeros: slices and concatenations took longer to
// compile than the convolution.
func convolveTaps(x, w *Node, stride int, padding [2]int) *Node {
	n, rows, columns := x.Shape().Dim(0), x.Shape().Dim(1), x.Shape().Dim(2)
	size, in, out := w.Shape().Dim(0), w.Shape().Dim(2), w.Shape().Dim(3)
	height, width := convolved(x, size, stride, padding)
	taps, pixels := size*size, height*width
	chosen := make([]float32, taps*pixels*rows*columns)
	for tap := range taps {
		for pixel := range pixels {
			row, column := pixel/width*stride+tap/size-padding[0], pixel%width*stride+tap%size-padding[0]
			if row >= 0 && row < rows && column >= 0 && column < columns {
				chosen[((tap*pixels+pixel)*rows+row)*columns+column] = 1
			}
		}
	}
	choice := ConvertDType(Reshape(Const(x.Graph(), chosen), taps, pixels, rows*columns), x.DType())
	// [taps, pixels, n, in], then [taps, pixels, n, out]
	met := DotGeneral(choice, []int{2}, nil, Reshape(x, n, rows*columns, in), []int{1}, nil)
	products := DotGeneral(met, []int{3}, []int{0}, Reshape(w, taps, in, out), []int{1}, []int{0})
	return Reshape(Transpose(ReduceSum(products, 0), 0, 1), n, height, width, out)
}

// Downsample2D halves x [batch, height, width, channels], rounding up, by a 3×3 convolution at stride 2
// (diffusers' Downsample2D). padding is (1, 1) in the UNet and (0, 1) in the VAE's encoder.
func Downsample2D(p Params, x *Node, padding [2]int) *Node {
	return p.Out(Conv2DStrided(p.In("conv"), x, x.Shape().Dim(-1), 3, 2, padding))
}

// Upsample2D repeats each pixel of x [batch, height, width, channels] twice each way, cuts the result to
// [batch, rows, columns, channels] and convolves it (diffusers' Upsample2D). rows and columns are the size of the
// skip connection that follows: 2n or 2n-1.
func Upsample2D(p Params, x *Node, rows, columns int) *Node {
	n, h, w, c := x.Shape().Dim(0), x.Shape().Dim(1), x.Shape().Dim(2), x.Shape().Dim(3)
	x = BroadcastToDims(InsertAxes(x, 2, 3), n, h, 2, w, 2, c)
	x = Reshape(x, n, 2*h, 2*w, c)
	if rows != 2*h || columns != 2*w {
		x = Slice(x, AxisRange(), AxisRange(0, rows), AxisRange(0, columns), AxisRange())
	}
	return p.Out(Conv2D(p.In("conv"), x, c, 3))
}
