package nn_test

import (
	"math/rand/v2"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
)

func TestPartSize(t *testing.T) {
	for _, c := range []struct{ queries, scores, most, want int }{
		{4096, 2 * 8 * 4096, 1 << 26, 1024}, // SD 1.5 at 512 pixels, with guidance
		{9216, 2 * 5 * 9216, 1 << 26, 576},  // SD 2.1 at 768
		{1024, 2 * 8 * 1024, 1 << 26, 1024}, // all at once
		{10, 10, 40, 2},                     // 3 parts do not divide 10, 5 do
		{7, 10, 30, 2},                      // a prime
		{5, 100, 10, 1},                     // not even one query fits
	} {
		if got := nn.PartSize(c.queries, c.scores, c.most); got != c.want {
			t.Errorf("%d queries of %d scores, at most %d: got parts of %d, want %d",
				c.queries, c.scores, c.most, got, c.want)
		}
	}
}

// Attention in parts is attention, and so are its gradients.
func TestAttentionInParts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	inputs := []parity.Tensor{normal(rng, 0, 2, 7, 6), normal(rng, 0, 2, 7, 6), normal(rng, 0, 2, 7, 6)}
	got := parity.Run(t, parity.Model{}, inputs, func(_ nn.Params, in []*Node, out map[string]*Node) {
		for name, most := range map[string]int{"whole": 1 << 20, "parts": 2 * 3 * 7 * 3} {
			y := nn.Attention(in[0], in[1], in[2], 3, nil, most)
			out[name] = y
			grads := Gradient(ReduceAllSum(Square(y)), in...)
			out[name+" q"], out[name+" k"], out[name+" v"] = grads[0], grads[1], grads[2]
		}
	})
	for _, key := range []string{"", " q", " k", " v"} {
		parity.Check(t, "parts"+key, got["parts"+key], got["whole"+key], 1e-6)
	}
}
