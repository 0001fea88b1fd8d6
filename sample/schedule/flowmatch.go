package schedule

import "limner/models/noise"

// newFlowMatch computes the schedule of Euler steps along the straight paths of rectified flows (Liu et al. 2022,
// arXiv:2209.03003; Esser et al. 2024, arXiv:2403.03206): diffusers' FlowMatchEulerDiscreteScheduler. The network
// predicts ε - x₀ at x = (1-σ)·x₀ + σ·ε.
func newFlowMatch(c noise.Config, steps, begin int, o Options) (Schedule, error) {
	levels, err := c.FlowLevels(steps, o.Mu)
	if err != nil {
		return Schedule{}, err
	}
	schedule := Schedule{Sigmas: levels.Sigmas, InitNoiseSigma: 1}
	for i := begin; i < steps; i++ {
		sigma, next := levels.Sigmas[i], levels.Sigmas[i+1]
		call := Call{
			Timestep: levels.Timesteps[i], InputScale: 1, Signal: 1 - sigma, Sigma: sigma, X0: [2]float64{1, -sigma},
		}
		// x' = x + (σ'-σ)·v
		call.Next = sum(ofX(1), ofOutput(next-sigma))
		if c.StochasticSampling {
			// x' = (1-σ')·x̂₀ + σ'·ε
			call.Next = sum(ofX0(1-next), ofNoise(next))
			call.Noise = true
		}
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}
