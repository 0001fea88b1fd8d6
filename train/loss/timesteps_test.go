package loss

import (
	"errors"
	"math"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
)

// asTimesteps are float inputs of a test as timesteps.
func asTimesteps(x *Node) *Node { return ConvertDType(x, dtypes.Int32) }

func TestChances(t *testing.T) {
	const n = 8
	for name, c := range map[string]struct {
		timesteps Timesteps
		want      [n]float64
	}{
		"none":    {Timesteps{}, [n]float64{1, 1, 1, 1, 1, 1, 1, 1}},
		"bounded": {Timesteps{Min: 2, Max: 5}, [n]float64{0, 0, 1, 1, 1}},
		"earlier": {Timesteps{Bias: BiasEarlier, Multiplier: 3, Portion: 0.25}, [n]float64{3, 3, 1, 1, 1, 1, 1, 1}},
		"later":   {Timesteps{Bias: BiasLater, Multiplier: 3, Portion: 0.25}, [n]float64{1, 1, 1, 1, 1, 1, 3, 3}},
		"of none": {Timesteps{Bias: BiasLater, Multiplier: 3}, [n]float64{1, 1, 1, 1, 1, 1, 1, 1}},
		"a range": {
			Timesteps{Bias: BiasRange, Multiplier: 0.5, Begin: 1, End: 3}, [n]float64{1, 0.5, 0.5, 1, 1, 1, 1, 1},
		},
		"and both": {
			Timesteps{Min: 2, Bias: BiasRange, Multiplier: 2, Begin: 1, End: 3}, [n]float64{0, 0, 2, 1, 1, 1, 1, 1},
		},
	} {
		if err := errors.Join(c.timesteps.validate(), c.timesteps.checkSteps(n)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, got := range c.timesteps.chances(n) {
			if got != c.want[i] {
				t.Errorf("%s: timestep %d: got %g, want %g", name, i, got, c.want[i])
			}
		}
	}
}

// Each timestep is drawn as often as it should be, within five standard deviations.
func TestTimestepsDraw(t *testing.T) {
	const n, draws = 10, 20000
	cases := map[string]Timesteps{
		"all":     {},
		"bounded": {Min: 3, Max: 7},
		"biased":  {Min: 1, Max: 9, Bias: BiasLater, Multiplier: 5, Portion: 0.3},
	}
	seed := parity.Tensor{Data: []float32{7}, Shape: []int{}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{seed}, func(_ nn.Params, in []*Node, out map[string]*Node) {
		seed := ConvertDType(in[0], dtypes.Uint64)
		for name, c := range cases {
			out[name] = ConvertDType(c.draw(Draws{Seed: seed, Step: seed}, n, draws), dtypes.Float32)
		}
	})
	for name, c := range cases {
		var counts [n]float64
		for _, at := range got[name].Data {
			counts[int(at)]++
		}
		var total float64
		chances := c.chances(n)
		for _, chance := range chances {
			total += chance
		}
		for i, count := range counts {
			p := chances[i] / total
			if !(math.Abs(count-p*draws) <= 5*math.Sqrt(p*(1-p)*draws)) {
				t.Errorf("%s: timestep %d came %g times in %d, want about %g", name, i, count, draws, p*draws)
			}
		}
	}
}
