package noise

import (
	"errors"
	"math"
)

// FlowLevels are those of FlowMatch (Lipman et al. 2022, arXiv:2210.02747; Esser et al. 2024, arXiv:2403.03206): σ is
// the fraction of the way from x₀ to noise. use_dynamic_shifting needs mu.
func (c Config) FlowLevels(n int, mu *float64) (Levels, error) {
	if err := c.fits(n, func(int) int { return 0 }); err != nil {
		return Levels{}, err
	}
	total := float64(c.NumTrainTimesteps)
	// The reference shifts the ends of the schedule before it spaces timesteps between them, and then shifts all of
	// them again.
	bound := func(t float64) float64 {
		sigma := float32(t) / float32(total)
		if !c.UseDynamicShifting {
			s := float32(c.Shift)
			sigma = s * sigma / (1 + float32(c.Shift-1)*sigma)
		}
		return float64(sigma)
	}
	sigmas := mapped(linspace(bound(total)*total, bound(1)*total, n), func(t float64) float64 { return t / total })
	sigmas, err := c.shifted(sigmas, c.Shift, mu)
	if err != nil {
		return Levels{}, err
	}
	if spread := c.spread(sigmas[n-1], sigmas[0], n); spread != nil {
		sigmas = spread
	}
	end := 0.0
	if c.InvertSigmas {
		end = 1
	}
	l := Levels{make([]float64, n), append(mapped(sigmas, single), end)}
	for i := range n {
		if c.InvertSigmas {
			l.Sigmas[i] = single(1 - l.Sigmas[i])
		}
		l.Timesteps[i] = single(l.Sigmas[i] * total)
	}
	return l, nil
}

// Mu is how far dynamic shifting moves the noise levels of an image with latents of a height and width: it grows
// linearly with the number of patches of 2×2 latents (calculate_shift of diffusers' pipelines for Stable Diffusion 3
// and Flux).
func (c Config) Mu(latents [2]int) float64 {
	slope := (c.MaxShift - c.BaseShift) / float64(c.MaxImageSeqLen-c.BaseImageSeqLen)
	tokens := (latents[0] / 2) * (latents[1] / 2)
	return float64(tokens)*slope + (c.BaseShift - slope*float64(c.BaseImageSeqLen))
}

// shifted moves fractions towards noise: σ' = s·σ/(1+(s-1)·σ), or with dynamic shifting as mu says. Then shift_terminal
// stretches them so that the last has that value.
func (c Config) shifted(sigmas []float64, s float64, mu *float64) ([]float64, error) {
	if c.UseDynamicShifting {
		if mu == nil {
			return nil, errors.New("use_dynamic_shifting: needs mu, which depends on the size of the image")
		}
		s = *mu
		if c.TimeShiftType == "exponential" {
			s = math.Exp(*mu)
		}
		sigmas = mapped(sigmas, func(sigma float64) float64 { return s / (s + (1/sigma - 1)) })
	} else {
		sigmas = mapped(sigmas, func(sigma float64) float64 { return shift(sigma, s) })
	}
	if last := 1 - sigmas[len(sigmas)-1]; c.ShiftTerminal != 0 && last != 0 {
		scale := last / (1 - c.ShiftTerminal)
		sigmas = mapped(sigmas, func(sigma float64) float64 { return 1 - (1-sigma)/scale })
	}
	return sigmas, nil
}

func shift(sigma, s float64) float64 { return s * sigma / (1 + (s-1)*sigma) }
