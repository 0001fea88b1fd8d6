package schedule

import (
	"math"

	"limner/models/noise"
)

// newEuler computes the schedule of algorithm 2 of Karras et al. 2022 (arXiv:2206.00364) without its correction:
// diffusers' EulerDiscreteScheduler. Churn raises the noise level from σ to σ̂ before a step.
func newEuler(c noise.Config, steps, begin int, o Options) (Schedule, error) {
	levels, err := c.Levels(steps)
	if err != nil {
		return Schedule{}, err
	}
	schedule := Schedule{Sigmas: levels.Sigmas, InitNoiseSigma: initialSigma(c, levels.Sigmas)}
	for i := begin; i < len(levels.Timesteps); i++ {
		sigma, next := levels.Sigmas[i], levels.Sigmas[i+1]
		call := levelCall(c, levels.Timesteps[i], sigma)
		gamma := 0.0
		if o.STmin <= sigma && sigma <= o.STmax {
			gamma = min(o.SChurn/float64(len(levels.Sigmas)-1), math.Sqrt2-1)
		}
		hat := sigma * (1 + gamma)
		x, x0 := ofX(1), sum(ofX(call.X0[0]), ofOutput(call.X0[1]))
		if gamma > 0 {
			// x̂ = x + √(σ̂²-σ²)·S_noise·ε
			x[columnNoise] = o.SNoise * math.Sqrt(hat*hat-sigma*sigma)
			if x0 = sum(x.times(call.X0[0]), ofOutput(call.X0[1])); c.PredictionType == noise.Epsilon {
				x0 = x.minus(ofOutput(hat))
			}
			call.Noise = true
		}
		// d = (x̂-x̂₀)/σ̂, x' = x̂ + (σ'-σ̂)·d
		call.Next = sum(x, x.minus(x0).times((next-hat)/hat))
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}
