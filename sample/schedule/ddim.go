package schedule

import (
	"math"

	"limner/models/noise"
)

// newDDIM computes the schedule of the sampler of Song, Meng and Ermon 2020 (arXiv:2010.02502): diffusers'
// DDIMScheduler. η = 0 adds no noise, η = 1 as much as DDPM.
func newDDIM(c noise.Config, steps, begin int, o Options) (Schedule, error) {
	timesteps, err := c.Timesteps(steps)
	if err != nil {
		return Schedule{}, err
	}
	a := newAlphas(c)
	schedule := Schedule{InitNoiseSigma: 1}
	for _, t := range timesteps[begin:] {
		s := t - c.NumTrainTimesteps/steps
		alphaT, alphaS := a.at(t), a.at(s)
		call := a.call(c, t)
		// σ = η·√((1-ᾱ_s)/(1-ᾱ_t))·√(1-ᾱ_t/ᾱ_s) (equation 16)
		sigma := o.Eta * math.Sqrt((1-alphaS)/(1-alphaT)*(1-alphaT/alphaS))
		epsilon := predictedEpsilon(c, call.Signal, call.Sigma)
		if o.UseClippedModelOutput {
			epsilon = ofX(1).minus(ofX0(call.Signal)).times(1 / call.Sigma)
		}
		// x_s = √ᾱ_s·x̂₀ + √(1-ᾱ_s-σ²)·ε̂ + σ·ε (equation 12)
		call.Next = sum(ofX0(math.Sqrt(alphaS)), epsilon.times(math.Sqrt(max(1-alphaS-sigma*sigma, 0))), ofNoise(sigma))
		call.Noise = o.Eta > 0
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}
