package optim

import (
	"errors"
	"fmt"
	"math"

	"limner/internal/settings"
)

// EMA are the settings of the moving average of the parameters: diffusers' EMAModel.
type EMA struct {
	Decay           float64 `json:"decay" name:"ema-decay" default:"0.9999" help:"Largest decay of the average." resume:"same"`
	MinDecay        float64 `json:"min_decay" kong:"-" resume:"same"` // the smallest
	UpdateAfterStep int     `json:"update_after_step" kong:"-" resume:"same"`
	UseWarmup       bool    `json:"use_ema_warmup" kong:"-" resume:"same"` // 1-(1+n/inv_gamma)^-power, not (1+n)/(10+n)
	InvGamma        float64 `json:"inv_gamma" kong:"-" default:"1" resume:"same"`
	Power           float64 `json:"power" kong:"-" default:"0.6666666666666666" resume:"same"`
}

// DefaultEMA holds diffusers' defaults.
func DefaultEMA() EMA { return settings.Default[EMA]() }

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
