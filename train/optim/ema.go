package optim

import (
	"errors"
	"fmt"
	"math"
)

// EMA are the settings of the moving average of the parameters: diffusers' EMAModel.
type EMA struct {
	Decay           float64 `json:"decay"`     // the largest
	MinDecay        float64 `json:"min_decay"` // the smallest
	UpdateAfterStep int     `json:"update_after_step"`
	UseWarmup       bool    `json:"use_ema_warmup"` // 1-(1+n/inv_gamma)^-power instead of (1+n)/(10+n)
	InvGamma        float64 `json:"inv_gamma"`
	Power           float64 `json:"power"`
}

// DefaultEMA holds diffusers' defaults.
func DefaultEMA() EMA {
	return EMA{Decay: 0.9999, InvGamma: 1, Power: 2.0 / 3}
}

// Validate reports every setting out of range.
func (e EMA) Validate() error {
	var errs []error
	if !(e.Decay >= 0 && e.Decay <= 1) {
		errs = append(errs, fmt.Errorf("ema_decay: got %g, want 0 to 1", e.Decay))
	}
	if !(e.InvGamma > 0) {
		errs = append(errs, fmt.Errorf("ema_inv_gamma: got %g, want above 0", e.InvGamma))
	}
	return errors.Join(errs...)
}

// At is the decay after optimizer step n, counted from 1: average ← decay·average + (1-decay)·parameters.
func (e EMA) At(n int) float64 {
	step := float64(max(0, n-e.UpdateAfterStep-1))
	if step == 0 {
		return 0
	}
	decay := (1 + step) / (10 + step)
	if e.UseWarmup {
		decay = 1 - math.Pow(1+step/e.InvGamma, -e.Power)
	}
	return max(e.MinDecay, min(decay, e.Decay))
}
