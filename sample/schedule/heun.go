package schedule

import "limner/models/noise"

// newHeun computes the schedule of algorithm 1 of Karras et al. 2022 (arXiv:2206.00364): diffusers'
// HeunDiscreteScheduler. Each step calls the network at both of its ends, save the last, which ends at σ = 0.
func newHeun(c noise.Config, steps, begin int, _ Options) (Schedule, error) {
	levels, err := c.Levels(steps)
	if err != nil {
		return Schedule{}, err
	}
	schedule := Schedule{InitNoiseSigma: initialSigma(c, levels.Sigmas)}
	for i, sigma := range levels.Sigmas {
		schedule.Sigmas = append(schedule.Sigmas, sigma)
		if 0 < i && i < steps {
			schedule.Sigmas = append(schedule.Sigmas, sigma) // once as an end, once as a beginning
		}
	}
	for i := begin; i < steps; i++ {
		sigma, next := levels.Sigmas[i], levels.Sigmas[i+1]
		// d = (x-x̂₀)/σ, x' = x + (σ'-σ)·d
		first := levelCall(c, levels.Timesteps[i], sigma)
		d := ofX(1).minus(ofX0(1)).times(1 / sigma)
		first.Next = sum(ofX(1), d.times(next-sigma))
		first.Memory[0], first.Memory[1] = d, ofX(1)
		schedule.Calls = append(schedule.Calls, first)
		if i+1 == steps {
			break
		}
		// d' = (x'-x̂₀')/σ', x' = x + (σ'-σ)·(d+d')/2
		second := levelCall(c, levels.Timesteps[i+1], next)
		d = ofX(1).minus(ofX0(1)).times(1 / next)
		second.Next = sum(ofMemory(1, 1), sum(ofMemory(0, 0.5), d.times(0.5)).times(next-sigma))
		schedule.Calls = append(schedule.Calls, second)
	}
	return schedule.finish(c)
}
