package schedule

import (
	"fmt"
	"math"

	"limner/models/noise"
)

// newLCM computes the schedule of the multistep consistency sampling of Luo et al. 2023 (arXiv:2310.04378, algorithm
// 3): diffusers' LCMScheduler. Each call predicts the image; all but the last noise it again.
func newLCM(c noise.Config, steps, begin int, _ Options) (Schedule, error) {
	timesteps, err := lcmTimesteps(c, steps)
	if err != nil {
		return Schedule{}, err
	}
	a := newAlphas(c)
	schedule := Schedule{InitNoiseSigma: 1}
	for i := begin; i < steps; i++ {
		t := timesteps[i]
		call := a.call(c, t)
		// f = c_skip·x + c_out·x̂₀, c_skip = σ_data²/(τ²+σ_data²), c_out = τ/√(τ²+σ_data²)
		const data = 0.5
		tau := float64(t) * c.TimestepScaling
		f := sum(ofX(data*data/(tau*tau+data*data)), ofX0(tau/math.Sqrt(tau*tau+data*data)))
		call.Next = f
		if i+1 < steps {
			alphaS := a.at(timesteps[i+1])
			call.Next = sum(f.times(math.Sqrt(alphaS)), ofNoise(math.Sqrt(1-alphaS)))
			call.Noise = true
		}
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}

// lcmTimesteps picks from the original_inference_steps that the model was distilled with.
func lcmTimesteps(c noise.Config, steps int) ([]int, error) {
	original := c.OriginalInferenceSteps
	if steps < 1 || steps > original {
		return nil, fmt.Errorf("num_inference_steps %d: want 1 to %d, the schedule's original_inference_steps",
			steps, original)
	}
	stride := c.NumTrainTimesteps / original
	out := make([]int, steps)
	for i := range out {
		skipped := int(math.Floor(float64(i) * (float64(original) / float64(steps))))
		out[i] = (original-skipped)*stride - 1
	}
	return out, nil
}
