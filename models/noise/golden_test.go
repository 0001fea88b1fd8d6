package noise_test

import (
	"math"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
	"limner/models/noise"
)

// Goldens: diffusers 0.42.1, torch 2.15, CPU, float32.
func TestBetasParity(t *testing.T) {
	g := parity.Open(t, "schedulers", "betas.safetensors")
	for _, key := range g.Keys() {
		t.Run(key, func(t *testing.T) {
			name, what, _ := strings.Cut(key, "/")
			schedule, rescaled := strings.CutSuffix(name, ".zsnr")
			c := noise.Defaults(noise.DDPM)
			c.BetaSchedule, c.RescaleBetasZeroSNR = schedule, rescaled
			if schedule == "scaled_linear" {
				c.BetaStart, c.BetaEnd = 0.00085, 0.012
			}
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			got := c.AlphasCumprod()
			if what == "betas" {
				got = c.Betas()
			}
			worst := 0.0
			for i, want := range g.Get(key).Data {
				limit := 1e-6 * math.Abs(float64(want))
				if rescaled {
					limit = 2.0 / (1 << 24) // two units in the last place below 1: torch's square root is not exact
				}
				d := math.Abs(float64(got[i]) - float64(want))
				if worst = max(worst, d); !(d <= limit) {
					t.Fatalf("at %d: got %g, want %g", i, got[i], want)
				}
			}
			t.Logf("worst error %.2g", worst)
		})
	}
}

// Goldens: diffusers 0.42.1, torch 2.15, CPU, float32.
func TestTargetsParity(t *testing.T) {
	g := parity.Open(t, "schedulers", "DDIMScheduler.safetensors")
	c := noise.StableDiffusion()
	c.PredictionType = noise.VPrediction
	inputs := []parity.Tensor{
		g.Get("add_noise/x0"), g.Get("add_noise/noise"), g.Get("add_noise/timesteps"), g.Get("velocity/timesteps"),
	}
	got := parity.Run(t, parity.Model{}, inputs, func(_ nn.Params, in []*Node, out map[string]*Node) {
		visited, velocity := ConvertDType(in[2], dtypes.Int32), ConvertDType(in[3], dtypes.Int32)
		out["add_noise/out"] = c.Add(in[0], in[1], visited)
		out["add_noise/out_0_1_500_999"] = c.Add(in[0], in[1], velocity)
		out["velocity/out"] = c.Target(in[0], in[1], velocity)
		sample := c
		sample.PredictionType = noise.Sample
		out["add_noise/x0"] = sample.Target(in[0], in[1], velocity)
	})
	for name, x := range got {
		parity.Check(t, name, x, g.Get(name), 1e-6)
	}
}
