package nn_test

import (
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
)

// The rows of one image stay neighbours, whichever side has fewer.
func TestAddRows(t *testing.T) {
	few := parity.Tensor{Shape: []int{2, 2}, Data: []float32{1, 2, 3, 4}}
	many := parity.Tensor{Shape: []int{4, 1}, Data: []float32{10, 20, 30, 40}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{few, many},
		func(_ nn.Params, in []*Node, out map[string]*Node) {
			out["few, many"], out["many, few"], out["alike"] = nn.AddRows(in[0], in[1]), nn.AddRows(in[1], in[0]),
				nn.AddRows(in[0], in[0])
		})
	repeated := []float32{11, 12, 21, 22, 33, 34, 43, 44}
	for name, want := range map[string][]float32{"few, many": repeated, "many, few": repeated, "alike": {2, 4, 6, 8}} {
		if !slices.Equal(got[name].Data, want) {
			t.Errorf("%s: got %v, want %v", name, got[name].Data, want)
		}
	}
}
