package nn_test

import (
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
)

// A layer whose output is given reads neither an input nor a weight; others do.
func TestWithOutputs(t *testing.T) {
	tree := declare(func(p nn.Params, x *Node) { nn.LinearNoBias(p.In("net.computed"), x, 2) })
	values := nn.Values{"net.computed.weight": {1, 2, 0, 0, 0, 0}}
	x := parity.Tensor{Shape: []int{1, 1, 1, 3}, Data: []float32{3, 4, 5}}
	given := parity.Tensor{Shape: []int{1, 1, 1, 2}, Data: []float32{5, 7}}
	var shown []string
	got := parity.Run(t, parity.Model{Tree: tree, Values: values}, []parity.Tensor{x, given},
		func(p nn.Params, in []*Node, out map[string]*Node) {
			p = p.WithOutputs(map[string]*Node{"net.given": in[1]}).WithProbe(func(path string, _ *Node) {
				shown = append(shown, path)
			}).In("net")
			out["given"], out["computed"] = nn.LinearNoBias(p.In("given"), nil, 2),
				nn.LinearNoBias(p.In("computed"), in[0], 2)
		})
	for name, want := range map[string][]float32{"given": {5, 7}, "computed": {3, 6}} {
		if !slices.Equal(got[name].Data, want) {
			t.Errorf("%s: got %v, want %v", name, got[name].Data, want)
		}
	}
	if want := []string{"net.given", "net.computed"}; !slices.Equal(shown, want) {
		t.Errorf("the probe saw %v, want %v", shown, want)
	}
}
