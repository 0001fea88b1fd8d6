package noise_test

import (
	"math"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
	"limner/models/noise"
)

// x_t and v are rotations of (x₀, ε): from both, the clean sample comes back.
func TestTargetsInvert(t *testing.T) {
	c := parity.Config(t, noise.ParseConfig, "sd15-tiny", "scheduler", "scheduler_config.json")
	x0 := parity.Tensor{Data: []float32{1, -2, 3, 0.5}, Shape: []int{2, 2}}
	epsilon := parity.Tensor{Data: []float32{-0.3, 1.2, 0.1, -2}, Shape: []int{2, 2}}
	timesteps := []int{20, 981}
	steps := parity.Tensor{Data: []float32{20, 981}, Shape: []int{2}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{x0, epsilon, steps},
		func(_ nn.Params, in []*Node, out map[string]*Node) {
			at := ConvertDType(in[2], dtypes.Int32)
			out["x"] = c.Add(in[0], in[1], at)
			out["epsilon"] = c.Target(in[0], in[1], at)
			v := c
			v.PredictionType = noise.VPrediction
			out["v"] = v.Target(in[0], in[1], at)
		})
	parity.Check(t, "ε", got["epsilon"], epsilon, 0)
	alphas := c.AlphasCumprod()
	for i := range x0.Data {
		a := float64(alphas[timesteps[i/2]])
		x, v := float64(got["x"].Data[i]), float64(got["v"].Data[i])
		// x₀ = √ᾱ·x_t - √(1-ᾱ)·v, ε = √(1-ᾱ)·x_t + √ᾱ·v
		if back := math.Sqrt(a)*x - math.Sqrt(1-a)*v; math.Abs(back-float64(x0.Data[i])) > 1e-5 {
			t.Errorf("x₀[%d]: got %g back, want %g", i, back, x0.Data[i])
		}
		if back := math.Sqrt(1-a)*x + math.Sqrt(a)*v; math.Abs(back-float64(epsilon.Data[i])) > 1e-5 {
			t.Errorf("ε[%d]: got %g back, want %g", i, back, epsilon.Data[i])
		}
	}
}
