package schedule

import (
	"math"
	"strings"

	"limner/models/noise"
)

// newDDPM computes the schedule of the ancestral sampler of Ho, Jain and Abbeel 2020 (arXiv:2006.11239): diffusers'
// DDPMScheduler. Each step draws from the posterior of the next timestep given x̂₀ and x_t.
func newDDPM(c noise.Config, steps, begin int, _ Options) (Schedule, error) {
	timesteps, err := c.Timesteps(steps)
	if err != nil {
		return Schedule{}, err
	}
	a := newAlphas(c)
	schedule := Schedule{InitNoiseSigma: 1}
	for i := begin; i < len(timesteps); i++ {
		t, s := timesteps[i], -1
		if i+1 < len(timesteps) {
			s = timesteps[i+1]
		}
		alphaT, alphaS := a.at(t), a.at(s)
		beta := 1 - alphaT/alphaS
		call := a.call(c, t)
		// μ̃ = √ᾱ_s·β/(1-ᾱ_t)·x̂₀ + √(1-β)·(1-ᾱ_s)/(1-ᾱ_t)·x_t (equation 7)
		call.Next = sum(
			ofX0(math.Sqrt(alphaS)*beta/(1-alphaT)),
			ofX(math.Sqrt(1-beta)*(1-alphaS)/(1-alphaT)),
		)
		if t > 0 {
			variance := max((1-alphaS)/(1-alphaT)*beta, 1e-20) // β̃
			if strings.HasPrefix(c.VarianceType, "fixed_large") {
				variance = beta
			}
			call.Noise = true
			call.Next[columnNoise] = math.Sqrt(variance)
		}
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}
