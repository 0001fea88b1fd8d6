package schedule

import (
	"math"

	"limner/models/noise"
)

// newEulerAncestral computes the schedule of Euler steps to below the next noise level, and noise up to it:
// k-diffusion's sample_euler_ancestral, diffusers' EulerAncestralDiscreteScheduler.
func newEulerAncestral(c noise.Config, steps, begin int, _ Options) (Schedule, error) {
	levels, err := c.Levels(steps)
	if err != nil {
		return Schedule{}, err
	}
	schedule := Schedule{Sigmas: levels.Sigmas, InitNoiseSigma: initialSigma(c, levels.Sigmas)}
	for i := begin; i < len(levels.Timesteps); i++ {
		sigma, next := levels.Sigmas[i], levels.Sigmas[i+1]
		call := levelCall(c, levels.Timesteps[i], sigma)
		// σ_up² + σ_down² = σ'², with σ_down = σ'²/σ
		up := next * math.Sqrt(max(sigma*sigma-next*next, 0)) / sigma
		down := next * next / sigma
		// x' = x + (σ_down-σ)·(x-x̂₀)/σ + σ_up·ε
		call.Next = sum(ofX(1), ofX(1).minus(ofX0(1)).times((down-sigma)/sigma), ofNoise(up))
		call.Noise = true
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}
