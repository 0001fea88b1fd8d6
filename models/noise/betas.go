package noise

import "math"

// squaredCosine is the beta_schedule of Nichol and Dhariwal 2021 (arXiv:2102.09672).
const squaredCosine = "squaredcos_cap_v2"

// Betas are β_t of each training timestep, computed in float32 as the reference does.
func (c Config) Betas() []float32 {
	n := c.NumTrainTimesteps
	var betas []float32
	switch {
	case c.TrainedBetas != nil:
		for _, b := range *c.TrainedBetas {
			betas = append(betas, float32(b))
		}
	case c.BetaSchedule == "scaled_linear":
		betas = linspace32(float32(math.Sqrt(c.BetaStart)), float32(math.Sqrt(c.BetaEnd)), n)
		for i, root := range betas {
			betas[i] = root * root
		}
	case c.BetaSchedule == squaredCosine:
		// β_t = min(1 - ᾱ((t+1)/T)/ᾱ(t/T), 0.999)
		alphaBar := func(t float64) float64 { return math.Pow(math.Cos((t+0.008)/1.008*math.Pi/2), 2) }
		for i := range n {
			betas = append(betas,
				float32(min(1-alphaBar(float64(i+1)/float64(n))/alphaBar(float64(i)/float64(n)), 0.999)))
		}
	case c.BetaSchedule == "sigmoid":
		betas = linspace32(-6, 6, n)
		for i, x := range betas {
			betas[i] = float32(float32(1/(1+math.Exp(-float64(x))))*float32(c.BetaEnd-c.BetaStart)) +
				float32(c.BetaStart)
		}
	default:
		betas = linspace32(float32(c.BetaStart), float32(c.BetaEnd), n)
	}
	if c.RescaleBetasZeroSNR {
		rescaleZeroSNR(betas)
	}
	return betas
}

// rescaleZeroSNR shifts and scales √ᾱ so that it becomes 0 at the last timestep and stays as it is at the first
// (algorithm 1 of Lin et al. 2023, arXiv:2305.08891).
func rescaleZeroSNR(betas []float32) {
	roots := cumprod(betas)
	for i, alpha := range roots {
		roots[i] = sqrt32(alpha)
	}
	first, last := roots[0], roots[len(roots)-1]
	previous := float32(1)
	for i, root := range roots {
		root = (root - last) * (first / (first - last))
		alpha := root * root
		betas[i] = float32(1 - float64(alpha)/float64(previous))
		previous = alpha
	}
}

// AlphasCumprod is ᾱ_t = Π (1-β_s) for s ≤ t, for each training timestep.
func (c Config) AlphasCumprod() []float32 { return cumprod(c.Betas()) }

// cumprod multiplies 1-β in float64 and rounds each product, as torch does.
func cumprod(betas []float32) []float32 {
	out := make([]float32, len(betas))
	product := 1.0
	for i, beta := range betas {
		product *= float64(1 - beta)
		out[i] = float32(product)
	}
	return out
}

// linspace32 is torch's: n evenly spaced float32 values, the second half counted from the end, each rounded once.
func linspace32(start, end float32, n int) []float32 {
	out := make([]float32, n)
	if n == 1 {
		out[0] = start
		return out
	}
	step := float64((end - start) / float32(n-1))
	for i := range out {
		if i < n/2 {
			out[i] = float32(float64(start) + step*float64(i))
		} else {
			out[i] = float32(float64(end) - step*float64(n-1-i))
		}
	}
	return out
}

func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }
