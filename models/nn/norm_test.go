package nn_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
)

// The group norm that reads its input once is group norm, and so are its gradients, up to 2^-24·μ²/σ² and what sums
// lose: as long as 16 bits can hold such values at all.
func TestGroupNormOnce(t *testing.T) {
	const n, side, channels, groups, eps = 2, 8, 12, 3, 1e-6
	tree := nn.Tree{
		{Key: "weight", Shape: []int{channels}, Kind: nn.Vector},
		{Key: "bias", Shape: []int{channels}, Kind: nn.Vector},
	}
	for _, c := range []struct{ mean, tolerance float64 }{{0, 1e-6}, {3, 5e-6}, {30, 3e-4}} {
		rng := rand.New(rand.NewPCG(1, 2))
		inputs := []parity.Tensor{
			normal(rng, c.mean, n, side, side, channels), normal(rng, 1, channels), normal(rng, 0, channels),
			normal(rng, 0, n, side, side, channels),
		}
		got := parity.Run(t, parity.Model{}, inputs, func(_ nn.Params, in []*Node, out map[string]*Node) {
			for name, y := range map[string]*Node{
				"once":  nn.GroupNormOnce(in[0], in[1], in[2], groups, eps),
				"twice": nn.GroupNorm(nn.Bind(tree, in[1:3]), in[0], groups, eps),
			} {
				out[name] = y
				grads := Gradient(ReduceAllSum(Mul(y, in[3])), in[:3]...)
				out[name+" x"], out[name+" weight"], out[name+" bias"] = grads[0], grads[1], grads[2]
			}
		})
		for _, key := range []string{"", " x", " weight", " bias"} {
			parity.Check(t, fmt.Sprintf("mean %v: once%s", c.mean, key), got["once"+key], got["twice"+key], c.tolerance)
		}
	}
}
