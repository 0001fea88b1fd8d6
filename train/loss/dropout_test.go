package loss

import (
	"fmt"
	"math"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
)

// Dropout leaves out its share, makes up for it, and leaves out others with every key.
func TestDropout(t *testing.T) {
	const n, share = 1 << 14, 0.25
	ones := parity.Tensor{Data: slices.Repeat([]float32{1}, n), Shape: []int{n / 64, 64}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{ones}, func(_ nn.Params, in []*Node, out map[string]*Node) {
		for i, key := range [][]uint32{{1, 2}, {1, 3}, {2, 2}, {1, 2}} {
			out[fmt.Sprint(i)] = dropout(in[0], share, Const(in[0].Graph(), key), nil)
		}
		half := n / 64 / 2
		key, row := Const(in[0].Graph(), []uint32{1, 2}), Const(in[0].Graph(), uint32(half))
		out["rows"] = dropout(Slice(in[0], AxisRange(half)), share, key, row)
	})
	if got, want := got["rows"].Data, got["0"].Data[n/2:]; !slices.Equal(got, want) {
		t.Error("the second half of a step's rows drops others when it comes by itself")
	}
	zeros := func(of ...string) int {
		count := 0
		for i := range n {
			if !slices.ContainsFunc(of, func(name string) bool { return got[name].Data[i] != 0 }) {
				count++
			}
		}
		return count
	}
	for _, name := range []string{"0", "1", "2"} {
		for _, v := range got[name].Data {
			if v != 0 && v != float32(1/(1-share)) {
				t.Fatalf("an element became %g", v)
			}
		}
		if got := float64(zeros(name)) / n; math.Abs(got-share) > 0.02 { // six deviations
			t.Errorf("%.3f were left out, want %g", got, share)
		}
	}
	for _, pair := range [][]string{{"0", "1"}, {"0", "2"}, {"1", "2"}} {
		if got := float64(zeros(pair...)) / n; math.Abs(got-share*share) > 0.012 {
			t.Errorf("keys %v leave out %.4f together, want %g", pair, got, share*share)
		}
	}
	if !slices.Equal(got["0"].Data, got["3"].Data) {
		t.Error("the same key leaves out others")
	}
}
