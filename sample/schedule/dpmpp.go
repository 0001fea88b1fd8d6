package schedule

import (
	"fmt"
	"math"
	"strings"

	"limner/models/noise"
)

// newDPMSolver computes the schedule of the multistep solvers DPM-Solver (Lu et al. 2022, arXiv:2206.00927) and
// DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095), of orders 1 to 3, for the ODE or for the SDE: diffusers'
// DPMSolverMultistepScheduler.
func newDPMSolver(c noise.Config, steps, begin int, o Options) (Schedule, error) {
	s, err := newDPM(c)
	if err != nil {
		return Schedule{}, err
	}
	levels, err := c.DPMLevels(steps, o.Mu)
	if err != nil {
		return Schedule{}, err
	}
	schedule := Schedule{Sigmas: levels.Sigmas, InitNoiseSigma: 1}
	n := len(levels.Timesteps)
	short := c.LowerOrderFinal && n < 15
	for i := begin; i < n; i++ {
		order := min(c.SolverOrder, i-begin+1)
		if i == n-1 && (c.EulerAtFinal || short || c.FinalSigmasType == "zero") {
			order = 1
		} else if i == n-2 && short {
			order = min(order, 2)
		}
		at := pointAt(c, levels.Sigmas[i])
		call := at.call(c, levels.Timesteps[i])
		m := s.output(c, at)
		call.Next = s.step(levels.Sigmas[:i+2], order, m)
		call.Noise = s.sde
		call.remember(m, 2)
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}

// point is where x = α·x₀ + σ·ε; λ = log(α/σ).
type point struct {
	alpha, sigma, lambda float64
}

// pointAt is the point of a noise level, in float32 as the reference computes it: the third order divides by
// differences of λ.
func pointAt(c noise.Config, sigma float64) point {
	single := func(x float64) float64 { return float64(float32(x)) }
	alpha := single(1 / single(math.Sqrt(single(single(sigma*sigma)+1))))
	if c.UseFlowSigmas {
		alpha = single(1 - sigma)
	} else {
		sigma = single(sigma * alpha)
	}
	return point{alpha, sigma, single(single(math.Log(alpha)) - single(math.Log(sigma)))}
}

// call begins a Call there.
func (p point) call(c noise.Config, t float64) Call {
	return Call{Timestep: t, InputScale: 1, Signal: p.alpha, Sigma: p.sigma, X0: predictedX0(c, p.alpha, p.sigma)}
}

// dpm says which of the solvers it is.
type dpm struct {
	noise   noise.Config
	x0      bool // DPM-Solver++: the output m is x̂₀, else ε̂
	sde     bool
	mediate bool // the second order by the midpoint, else as Heun's
}

func newDPM(c noise.Config) (dpm, error) {
	s := dpm{
		noise: c, sde: strings.HasPrefix(c.AlgorithmType, "sde-"),
		x0:      strings.HasSuffix(c.AlgorithmType, "++") || c.AlgorithmType == "deis",
		mediate: c.SolverType != "heun",
	}
	switch {
	case !s.x0 && c.FinalSigmasType == "zero":
		return s, fmt.Errorf("algorithm_type %s: does not reach final_sigmas_type zero: use sigma_min, or dpmsolver++",
			c.AlgorithmType)
	case !s.x0 && c.PredictionType == noise.FlowPrediction:
		return s, fmt.Errorf("algorithm_type %s: does not support prediction_type %s: use dpmsolver++",
			c.AlgorithmType, c.PredictionType)
	case !s.x0 && s.sde && c.SolverOrder == 3:
		return s, fmt.Errorf("algorithm_type %s: solver_order 3 is not defined: use 1 or 2", c.AlgorithmType)
	}
	return s, nil
}

// output is what the solver continues: x̂₀ or ε̂.
func (s dpm) output(c noise.Config, at point) Form {
	switch {
	case s.x0:
		return ofX0(1)
	case c.Thresholding:
		return ofX(1).minus(ofX0(at.alpha)).times(1 / at.sigma)
	}
	return predictedEpsilon(c, at.alpha, at.sigma)
}

// step goes from the last but one of the noise levels to the last, by the output m there and those before it.
func (s dpm) step(sigmas []float64, order int, m Form) Form {
	at := func(back int) point { return pointAt(s.noise, sigmas[len(sigmas)-1-back]) }
	t, s0 := at(0), at(1)
	h := t.lambda - s0.lambda
	e := s.weights(t, s0, h)
	next := sum(ofX(e.x), m.times(e.d0), ofNoise(e.noise))
	if order == 1 {
		return next
	}
	h0 := s0.lambda - at(2).lambda
	r0 := h0 / h
	d1 := m.minus(ofMemory(0, 1)).times(1 / r0)
	if order == 2 {
		if s.mediate {
			return sum(next, d1.times(e.d0/2))
		}
		return sum(next, d1.times(e.d1))
	}
	r1 := (at(2).lambda - at(3).lambda) / h
	d11 := ofMemory(0, 1).minus(ofMemory(1, 1)).times(1 / r1)
	change := d1.minus(d11).times(1 / (r0 + r1))
	return sum(next, sum(d1, change.times(r0)).times(e.d1), change.times(e.d2))
}

// weights are the factors of x, of the output's derivatives D₀, D₁ and D₂ by λ, and of noise.
type weights struct {
	x, d0, d1, d2, noise float64
}

// weights for a step of h in λ, from s to t.
func (s dpm) weights(t, from point, h float64) weights {
	switch {
	case s.x0 && s.sde:
		e := -math.Expm1(-2 * h) // 1-e^{-2h}
		return weights{
			x: t.sigma / from.sigma * math.Exp(-h), d0: t.alpha * e, d1: t.alpha * (1 - e/(2*h)),
			d2: t.alpha * ((e-2*h)/(4*h*h) - 0.5), noise: t.sigma * math.Sqrt(e),
		}
	case s.x0:
		e := math.Expm1(-h) // e^{-h}-1
		return weights{
			x: t.sigma / from.sigma, d0: -t.alpha * e, d1: t.alpha * (e/h + 1), d2: -t.alpha * ((e+h)/(h*h) - 0.5),
		}
	}
	e := math.Expm1(h)
	w := weights{
		x: t.alpha / from.alpha, d0: -t.sigma * e, d1: -t.sigma * (e/h - 1), d2: -t.sigma * ((e-h)/(h*h) - 0.5),
	}
	if s.sde {
		w.d0, w.d1, w.d2 = 2*w.d0, 2*w.d1, 2*w.d2
		w.noise = t.sigma * math.Sqrt(math.Expm1(2*h))
	}
	return w
}
