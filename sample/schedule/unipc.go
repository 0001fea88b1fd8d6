package schedule

import (
	"math"
	"slices"

	"limner/models/noise"
)

// newUniPC computes the schedule of the predictor-corrector of Zhao et al. 2023 (arXiv:2302.04867) of orders 1 to 3:
// diffusers' UniPCMultistepScheduler. Each call first corrects the x it was given by its own output, then predicts the
// next.
func newUniPC(c noise.Config, steps, begin int, o Options) (Schedule, error) {
	levels, err := c.UniPCLevels(steps, o.Mu)
	if err != nil {
		return Schedule{}, err
	}
	const lastX = 3 // the memory after three outputs
	schedule := Schedule{Sigmas: levels.Sigmas, InitNoiseSigma: 1}
	n, order := len(levels.Timesteps), 0
	for i := begin; i < n; i++ {
		at := pointAt(c, levels.Sigmas[i])
		call := at.call(c, levels.Timesteps[i])
		m := ofX0(1)
		if !c.PredictX0 {
			m = predictedEpsilon(c, at.alpha, at.sigma)
		}
		x := ofX(1)
		if i > begin && !(c.DisableCorrector != nil && slices.Contains(*c.DisableCorrector, i-1)) {
			before := []Form{ofMemory(0, 1), ofMemory(1, 1), ofMemory(2, 1)}
			x = uniPCStep(c, levels.Sigmas[:i+1], ofMemory(lastX, 1), before[:order], &m)
		}
		order = min(c.SolverOrder, i-begin+1)
		if c.LowerOrderFinal {
			order = min(order, n-i)
		}
		if levels.Sigmas[i+1] == 0 {
			order = 1 // λ is infinite there: no polynomial reaches it
		}
		outputs := []Form{m, ofMemory(0, 1), ofMemory(1, 1)}
		call.Next = uniPCStep(c, levels.Sigmas[:i+2], x, outputs[:order], nil)
		call.remember(m, 3)
		call.Memory[lastX] = x
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}

// uniPCStep takes x from the last but one of the noise levels to the last, by the outputs from there back, and in the
// corrector by the output at the end as well (equations 3 and 9 with B(h) of section 3.4).
func uniPCStep(c noise.Config, sigmas []float64, x Form, outputs []Form, end *Form) Form {
	at := func(back int) point { return pointAt(c, sigmas[len(sigmas)-1-back]) }
	t, s0 := at(0), at(1)
	h := t.lambda - s0.lambda
	// x_t = σ_t/σ_s·x - α_t·(e^{-h}-1)·m₀ - α_t·B(h)·Σ ρ_k·D_k; with outputs ε̂, α and σ change places and h its sign.
	hh, kx, k := -h, t.sigma/s0.sigma, t.alpha
	first := k * math.Expm1(hh)
	if !c.PredictX0 {
		hh, kx, k = h, t.alpha/s0.alpha, t.sigma
		first = t.alpha*s0.sigma/s0.alpha - t.sigma // σ_t·(e^h-1), also where h is infinite
	}
	next := x.times(kx).minus(outputs[0].times(first))
	var r []float64
	var d []Form
	for i, m := range outputs[1:] {
		r = append(r, (at(i+2).lambda-s0.lambda)/h)
		d = append(d, m.minus(outputs[0]).times(1/r[i]))
	}
	if end != nil {
		r = append(r, 1)
		d = append(d, end.minus(outputs[0]))
	}
	b := first // bh2: B(h) = e^h-1
	if c.SolverType == "bh1" {
		b = k * hh
	}
	for i, rho := range uniPCWeights(r, hh, b/k) {
		next = next.minus(d[i].times(b * rho))
	}
	return next
}

// uniPCWeights solves Σ r_k^(i-1)·ρ_k = i!·h·φ_{i+1}(h)/B(h) for i from 1 on. For one unknown it is 1/2, as in the
// reference.
func uniPCWeights(r []float64, h, b float64) []float64 {
	switch len(r) {
	case 0:
		return nil
	case 1:
		return []float64{0.5}
	}
	rows := make([][]float64, len(r))
	factorial := 1.0
	phi := math.Expm1(h)/h - 1 // h·φ₂
	for i := range rows {
		for _, v := range r {
			rows[i] = append(rows[i], math.Pow(v, float64(i)))
		}
		rows[i] = append(rows[i], phi*factorial/b)
		factorial *= float64(i + 2)
		phi = phi/h - 1/factorial
	}
	return solve(rows)
}

// solve eliminates as Gauss did, with the largest pivots; each row ends with its right side.
func solve(rows [][]float64) []float64 {
	n := len(rows)
	for i := range n {
		pivot := i
		for j := i; j < n; j++ {
			if math.Abs(rows[j][i]) > math.Abs(rows[pivot][i]) {
				pivot = j
			}
		}
		rows[i], rows[pivot] = rows[pivot], rows[i]
		for j := range n {
			if j == i {
				continue
			}
			factor := rows[j][i] / rows[i][i]
			for k := i; k <= n; k++ {
				rows[j][k] -= factor * rows[i][k]
			}
		}
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = rows[i][n] / rows[i][i]
	}
	return out
}
