package schedule

import (
	"fmt"
	"math"
)

// Options are what the schedulers can be asked for beyond their config, under the names of diffusers' step and
// set_timesteps.
type Options struct {
	Strength              float64  `json:"strength"`                 // image to image: the share of steps to run
	Eta                   float64  `json:"eta"`                      // DDIM: 0 adds no noise, 1 as much as DDPM
	UseClippedModelOutput bool     `json:"use_clipped_model_output"` // DDIM: ε̂ follows from the clipped x̂₀
	SChurn                float64  `json:"s_churn"`                  // Euler: how much noise is added over all steps
	STmin                 float64  `json:"s_tmin"`                   // Euler: the noise level from which on it is
	STmax                 float64  `json:"s_tmax"`                   // Euler: the noise level up to which it is
	SNoise                float64  `json:"s_noise"`                  // Euler: the standard deviation of that noise
	Mu                    *float64 `json:"mu"`                       // for use_dynamic_shifting; nil: from LatentSize
	LatentSize            [2]int   `json:"-"`                        // height and width
}

// DefaultOptions are diffusers' defaults.
func DefaultOptions() Options {
	return Options{Strength: 1, STmax: math.Inf(1), SNoise: 1}
}

// Validate reports every option out of range.
func (o Options) Validate() error {
	switch {
	case !(0 < o.Strength && o.Strength <= 1):
		return fmt.Errorf("strength %g: want more than 0, and 1 at most", o.Strength)
	case !(0 <= o.Eta && o.Eta <= 1):
		return fmt.Errorf("eta %g: want 0 to 1", o.Eta)
	case !(o.SChurn >= 0):
		return fmt.Errorf("s_churn %g: want at least 0", o.SChurn)
	}
	return nil
}
