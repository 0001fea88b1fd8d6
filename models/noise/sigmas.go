package noise

import (
	"math"
	"slices"
)

// Levels are the noise levels that a sampler visits: it starts each step at a timestep, from Sigmas of the same index
// to the next.
type Levels struct {
	Timesteps []float64 // inputs of the network; some classes allow fractions
	Sigmas    []float64 // at least one more than Timesteps
}

// table lists σ_t = √((1-ᾱ_t)/ᾱ_t) of each training timestep, in float32.
func (c Config) table() []float32 {
	alphas := c.AlphasCumprod()
	if c.RescaleBetasZeroSNR {
		alphas[len(alphas)-1] = 1.0 / (1 << 24) // keeps σ finite
	}
	for i, alpha := range alphas {
		alphas[i] = sqrt32((1 - alpha) / alpha)
	}
	return alphas
}

// Levels are those of the classes of Karras et al. 2022 (arXiv:2206.00364): Euler, EulerAncestral, Heun and LMS.
func (c Config) Levels(n int) (Levels, error) {
	timesteps, err := c.spaced(n, single)
	if err != nil {
		return Levels{}, err
	}
	table := c.table()
	logs := logarithms(table)
	sigmas := interpolated(timesteps, table)
	if c.InterpolationType == "log_linear" {
		sigmas = sigmas[:0]
		for _, log := range linspace32(logs[len(logs)-1], logs[0], n+1) {
			sigmas = append(sigmas, single(math.Exp(float64(log))))
		}
	}
	if spread := c.spread(sigmas[len(sigmas)-1], sigmas[0], n); spread != nil {
		sigmas = spread
		timesteps = timestepsAt(sigmas, logs)
	}
	sigmas = append(sigmas, c.final(table))
	l := Levels{mapped(timesteps, single), mapped(sigmas, single)}
	if c.TimestepType == "continuous" && c.PredictionType == VPrediction {
		for i := range l.Timesteps {
			l.Timesteps[i] = single(0.25 * single(math.Log(l.Sigmas[i])))
		}
	}
	return l, nil
}

// DPMLevels are those of DPMSolver. mu, if not nil, sets the flow shift.
func (c Config) DPMLevels(n int, mu *float64) (Levels, error) {
	table := c.table()
	logs := logarithms(table)
	timesteps, err := c.multistep(n, c.clipped())
	if err != nil {
		return Levels{}, err
	}
	if mu != nil {
		c.FlowShift = math.Exp(*mu)
	}
	var sigmas []float64
	least, largest := float64(table[0]), float64(table[len(table)-1])
	switch {
	case c.UseKarrasSigmas:
		sigmas = c.spread(least, largest, n)
		timesteps = c.rounded(timestepsAt(sigmas, logs))
	case c.UseLuLambdas:
		sigmas = luSigmas(float64(logs[0]), float64(logs[len(logs)-1]), n)
		timesteps = c.rounded(timestepsAt(sigmas, logs))
	case c.UseExponentialSigmas, c.UseBetaSigmas:
		sigmas = c.spread(least, largest, n)
		timesteps = timestepsAt(sigmas, logs)
	case c.UseFlowSigmas:
		alphas := linspace(1, 1/float64(c.NumTrainTimesteps), n+1)
		sigmas = down(alphas, func(alpha float64) float64 { return shift(1-alpha, c.FlowShift) })[:n]
		timesteps = c.fractions(sigmas)
	default:
		sigmas = interpolated(timesteps, table)
	}
	sigmas = append(sigmas, c.final(table))
	return Levels{truncated(timesteps), mapped(sigmas, single)}, nil
}

// UniPCLevels are those of UniPC. use_dynamic_shifting needs mu.
func (c Config) UniPCLevels(n int, mu *float64) (Levels, error) {
	table := c.table()
	logs := logarithms(table)
	timesteps, err := c.multistep(n, c.NumTrainTimesteps)
	if err != nil {
		return Levels{}, err
	}
	last := float64(table[0])
	spread := c.spread(last, float64(table[len(table)-1]), n)
	var sigmas []float64
	switch {
	case c.UseKarrasSigmas && c.UseFlowSigmas:
		sigmas = mapped(spread, func(sigma float64) float64 { return sigma / (sigma + 1) })
		timesteps = c.fractions(sigmas)
	case c.UseKarrasSigmas:
		sigmas = spread
		timesteps = mapped(timestepsAt(sigmas, logs), math.RoundToEven)
	case spread != nil:
		sigmas = spread
		timesteps = timestepsAt(sigmas, logs)
	case c.UseFlowSigmas:
		sigmas, err = c.shifted(linspace(1, 1/float64(c.NumTrainTimesteps), n+1)[:n], c.FlowShift, mu)
		if err != nil {
			return Levels{}, err
		}
		if eps := 1e-6; math.Abs(sigmas[0]-1) < eps {
			sigmas[0] -= eps // at σ = 1 nothing of x₀ is left, and λ = log(α/σ) is infinite
		}
		timesteps = c.fractions(sigmas)
	default:
		sigmas = interpolated(timesteps, table)
	}
	if spread != nil || c.UseFlowSigmas {
		last = sigmas[n-1]
	}
	if c.FinalSigmasType == "zero" {
		last = 0
	}
	return Levels{truncated(timesteps), mapped(append(sigmas, last), single)}, nil
}

// final is the noise level after the last step.
func (c Config) final(table []float32) float64 {
	if c.FinalSigmasType == "sigma_min" {
		return float64(table[0])
	}
	return 0
}

// clipped is how many timesteps have at least λ = log(√ᾱ/√(1-ᾱ)) = lambda_min_clipped.
func (c Config) clipped() int {
	alphas := c.AlphasCumprod()
	if c.RescaleBetasZeroSNR {
		alphas[len(alphas)-1] = 1.0 / (1 << 24)
	}
	n := len(alphas)
	for n > 0 {
		alpha := float64(alphas[n-1])
		if single(math.Log(math.Sqrt(alpha)))-single(math.Log(math.Sqrt(1-alpha))) >= c.LambdaMinClipped {
			break
		}
		n--
	}
	return n
}

// rounded rounds timesteps to whole ones, except in the squared cosine schedule, where they would coincide.
func (c Config) rounded(timesteps []float64) []float64 {
	if c.BetaSchedule == squaredCosine {
		return timesteps
	}
	return mapped(timesteps, math.RoundToEven)
}

// fractions are the timesteps of flow matching, where σ is the fraction of the way to noise.
func (c Config) fractions(sigmas []float64) []float64 {
	return mapped(sigmas, func(sigma float64) float64 { return sigma * float64(c.NumTrainTimesteps) })
}

// spread spaces n noise levels from largest to least, if the config says how: as Karras et al. 2022 (equation 5, ρ =
// 7), evenly in log σ, or by the quantiles of a beta distribution (Lee et al. 2024, arXiv:2407.12173). sigma_max and
// sigma_min replace the ends, except in LMS with Karras et al., where diffusers ignores them.
func (c Config) spread(least, largest float64, n int) []float64 {
	heeds := c.ClassName != LMS || !c.UseKarrasSigmas
	if heeds && c.SigmaMin > 0 {
		least = c.SigmaMin
	}
	if heeds && c.SigmaMax > 0 {
		largest = c.SigmaMax
	}
	switch {
	case c.UseKarrasSigmas:
		const rho = 7
		low, high := math.Pow(least, 1.0/rho), math.Pow(largest, 1.0/rho)
		return mapped(linspace(0, 1, n), func(ramp float64) float64 { return math.Pow(high+ramp*(low-high), rho) })
	case c.UseExponentialSigmas:
		return mapped(linspace(math.Log(largest), math.Log(least), n), math.Exp)
	case c.UseBetaSigmas:
		return mapped(linspace(0, 1, n), func(ramp float64) float64 {
			return least + betaQuantile(1-ramp, 0.6, 0.6)*(largest-least)
		})
	}
	return nil
}

// luSigmas spaces n noise levels evenly in λ = -log σ (Lu et al. 2022, arXiv:2206.00927).
func luSigmas(least, largest float64, n int) []float64 {
	return mapped(linspace(0, 1, n), func(ramp float64) float64 { return math.Exp(largest + ramp*(least-largest)) })
}

// interpolated gives the noise levels at timesteps, which may lie between two of the table.
func interpolated(timesteps []float64, table []float32) []float64 {
	return mapped(timesteps, func(t float64) float64 {
		i := int(t)
		if i >= len(table)-1 {
			return float64(table[len(table)-1])
		}
		slope := float64(table[i+1]) - float64(table[i])
		return slope*(t-float64(i)) + float64(table[i])
	})
}

// timestepsAt gives the timesteps of noise levels, interpolated linearly in log σ between the table's, whose logarithms
// are given.
func timestepsAt(sigmas []float64, logs []float32) []float64 {
	return mapped(sigmas, func(sigma float64) float64 {
		log := math.Log(max(sigma, 1e-10))
		i := sortedIndex(logs, log)
		if i+1 >= len(logs) {
			return float64(i)
		}
		w := (float64(logs[i]) - log) / float64(logs[i]-logs[i+1])
		w = min(max(w, 0), 1)
		return (1-w)*float64(i) + w*float64(i+1)
	})
}

// sortedIndex is the last index but the final one whose value is at most x; 0 if all are larger.
func sortedIndex(values []float32, x float64) int {
	i, _ := slices.BinarySearchFunc(values, x, func(v float32, x float64) int {
		if float64(v) <= x {
			return -1
		}
		return 1
	})
	return max(min(i-1, len(values)-2), 0)
}
