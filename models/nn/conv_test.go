package nn_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
)

// A convolution gives XLA's values and gradients in either form, and takes products of matrices where XLA's own would
// be slow.
func TestConv(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		height, width, size, stride int
		padding                     [2]int
		taps                        bool
	}{
		{1, 1, 3, 1, [2]int{1, 1}, true},
		{2, 2, 3, 1, [2]int{1, 1}, true},
		{2, 4, 3, 1, [2]int{1, 1}, true},
		{3, 3, 3, 1, [2]int{1, 1}, false},
		{1, 9, 3, 1, [2]int{1, 1}, false},
		{1, 1, 1, 1, [2]int{}, false},
		{2, 2, 3, 2, [2]int{1, 1}, true},
		{4, 3, 3, 2, [2]int{1, 1}, true},
		{4, 4, 3, 2, [2]int{0, 1}, true}, // the VAE's
		{5, 6, 3, 2, [2]int{1, 1}, false},
	} {
		t.Run(fmt.Sprintf("%d×%d by %d, stride %d", c.height, c.width, c.size, c.stride), func(t *testing.T) {
			const in, out = 3, 4
			kernel := nn.Spec{Key: "weight", Kind: nn.Kernel, Shape: []int{c.size, c.size, in, out}}
			bias := nn.Spec{Key: "bias", Kind: nn.Vector, Shape: []int{out}}
			model := parity.Model{Tree: nn.Tree{kernel, bias}, Values: nn.Values{
				"weight": normal(rng, 0, kernel.Shape...).Data, "bias": normal(rng, 0, out).Data,
			}}
			got := parity.Run(t, model, []parity.Tensor{normal(rng, 0, 2, c.height, c.width, in)},
				func(p nn.Params, x []*Node, named map[string]*Node) {
					w, b := p.Param("weight", nn.Kernel, nn.InitUniform, 1, kernel.Shape...),
						p.Param("bias", nn.Vector, nn.InitZeros, 1, out)
					whole := Convolve(x[0], w).Strides(c.stride).PaddingPerDim([][2]int{c.padding, c.padding}).Done()
					ours := nn.Conv2DStrided(p, x[0], out, c.size, c.stride, c.padding)
					for name, y := range map[string]*Node{"ours": ours, "xla": Add(whole, ExpandLeftToRank(b, 4))} {
						grads := Gradient(ReduceAllSum(Square(y)), x[0], w)
						named[name], named[name+" x"], named[name+" w"] = y, grads[0], grads[1]
					}
					if has := convolutions(ours) > 0; has == c.taps {
						t.Errorf("got a convolution: %v, want %v", has, !c.taps)
					}
				})
			for _, key := range []string{"", " x", " w"} {
				parity.Check(t, "ours"+key, got["ours"+key], got["xla"+key], 1e-6)
			}
		})
	}
}

// convolutions are the convolutions that a node is made of.
func convolutions(y *Node) (n int) {
	if y.Type() == NodeTypeConvGeneral {
		n = 1
	}
	for _, x := range y.Inputs() {
		n += convolutions(x)
	}
	return n
}
