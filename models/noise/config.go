// Package noise holds the noise schedule of a diffusion model: how much of an image is left at each timestep, and what the
// network is asked to predict.
package noise

import (
	"errors"
	"fmt"
	"math"

	"limner/models/nn"
)

// Config is the part of a scheduler_config.json that describes the schedule a model was trained with. What only concerns
// one sampler stands here too, so that one file configures all of them.
type Config struct {
	ClassName         string  `json:"_class_name"`
	NumTrainTimesteps int     `json:"num_train_timesteps"`
	BetaStart         float64 `json:"beta_start"`
	BetaEnd           float64 `json:"beta_end"`
	BetaSchedule      string  `json:"beta_schedule"`   // "linear" or "scaled_linear"
	PredictionType    string  `json:"prediction_type"` // "epsilon" or "v_prediction"
	ClipSample        bool    `json:"clip_sample"`
	SetAlphaToOne     bool    `json:"set_alpha_to_one"` // ᾱ after the last step: 1, else that of timestep 0
	StepsOffset       int     `json:"steps_offset"`
	TimestepSpacing   string  `json:"timestep_spacing"` // "leading"
	SkipPRKSteps      bool    `json:"skip_prk_steps"`
}

// Epsilon and VPrediction are the values of prediction_type.
const (
	Epsilon     = "epsilon"
	VPrediction = "v_prediction"
)

var fixed = nn.Fixed{
	"trained_betas": {"null"}, "thresholding": {"false"}, "rescale_betas_zero_snr": {"false"},
	"use_karras_sigmas": {"false"}, "interpolation_type": {`"linear"`},
	"dynamic_thresholding_ratio": {"0.995"}, "clip_sample_range": {"1.0", "1"}, "sample_max_value": {"1.0", "1"},
}

// Default holds the values that diffusers gives to fields that a file leaves out.
func Default() Config {
	return Config{
		ClassName: "DDIMScheduler", NumTrainTimesteps: 1000, BetaStart: 0.0001, BetaEnd: 0.02, BetaSchedule: "linear",
		PredictionType: Epsilon, ClipSample: true, SetAlphaToOne: true, TimestepSpacing: "leading",
	}
}

// ParseConfig decodes and checks a scheduler_config.json.
func ParseConfig(raw []byte) (Config, error) {
	c := Default()
	if err := nn.DecodeConfig(raw, &c, fixed); err != nil {
		return Config{}, err
	}
	return c, c.Validate()
}

// Validate reports every field whose value is not supported.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.NumTrainTimesteps < 1 {
		bad("num_train_timesteps: got %d, want at least 1", c.NumTrainTimesteps)
	}
	if !(0 < c.BetaStart && c.BetaStart <= c.BetaEnd && c.BetaEnd < 1) {
		bad("beta_start, beta_end: got %g and %g, want 0 < start ≤ end < 1", c.BetaStart, c.BetaEnd)
	}
	if c.BetaSchedule != "linear" && c.BetaSchedule != "scaled_linear" {
		bad("beta_schedule: got %q, supported: linear, scaled_linear", c.BetaSchedule)
	}
	if c.PredictionType != Epsilon && c.PredictionType != VPrediction {
		bad("prediction_type: got %q, supported: %s, %s", c.PredictionType, Epsilon, VPrediction)
	}
	if c.TimestepSpacing != "leading" {
		bad("timestep_spacing: got %q, supported: leading", c.TimestepSpacing)
	}
	return errors.Join(errs...)
}

// AlphasCumprod is ᾱ_t = Π (1-β_s) for s ≤ t, for each training timestep. The betas are computed in float32 as the reference does.
func (c Config) AlphasCumprod() []float32 {
	start, end, power := c.BetaStart, c.BetaEnd, 1.0
	if c.BetaSchedule == "scaled_linear" {
		start, end, power = math.Sqrt(start), math.Sqrt(end), 2
	}
	out := make([]float32, c.NumTrainTimesteps)
	product := float32(1)
	for i, beta := range linspace(float32(start), float32(end), c.NumTrainTimesteps) {
		if power == 2 {
			beta *= beta
		}
		product *= 1 - beta
		out[i] = product
	}
	return out
}

// linspace is torch's: n evenly spaced float32 values, the second half counted from the end.
func linspace(start, end float32, n int) []float32 {
	out := make([]float32, n)
	if n == 1 {
		out[0] = start
		return out
	}
	step := (end - start) / float32(n-1)
	for i := range out {
		if i < n/2 {
			out[i] = start + step*float32(i)
		} else {
			out[i] = end - step*float32(n-1-i)
		}
	}
	return out
}
