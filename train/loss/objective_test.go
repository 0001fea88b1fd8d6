package loss

import (
	"fmt"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
)

// The seed reaches the device's random numbers, and no two purposes share them.
func TestRandomNumbers(t *testing.T) {
	seeds := parity.Tensor{Data: []float32{1, 2}, Shape: []int{2}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{seeds}, func(_ nn.Params, in []*Node, out map[string]*Node) {
		for seed := range 2 {
			key := ConvertDType(Reshape(Slice(in[0], AxisElem(seed))), dtypes.Uint64)
			for step := range 2 {
				draw := Draws{Seed: key, Step: Const(key.Graph(), uint64(step+1))}
				for _, purpose := range []uint32{
					drawNoise, drawTimesteps, drawPosterior, drawOffset, drawPerturbation, DrawRounding,
				} {
					out[fmt.Sprintf("seed %d, step %d, purpose %d", seed, step, purpose)] = draw.normal(purpose, 8)
				}
			}
		}
	})
	seen := map[string]string{}
	for name, x := range got {
		key := fmt.Sprint(x.Data)
		if other, ok := seen[key]; ok {
			t.Errorf("the numbers of %s are those of %s", name, other)
		}
		seen[key] = name
	}
}
