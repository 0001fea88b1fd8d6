package schedule

import (
	"math"

	"limner/models/noise"
)

// newLMS computes the schedule of linear multistep integration of Karras et al.'s ODE (k-diffusion's sample_lms):
// diffusers' LMSDiscreteScheduler of order 4. The derivatives of the last steps are continued as a polynomial in σ.
func newLMS(c noise.Config, steps, begin int, _ Options) (Schedule, error) {
	const order = 4
	levels, err := c.Levels(steps)
	if err != nil {
		return Schedule{}, err
	}
	schedule := Schedule{Sigmas: levels.Sigmas, InitNoiseSigma: initialSigma(c, levels.Sigmas)}
	for i := begin; i < len(levels.Timesteps); i++ {
		sigma := levels.Sigmas[i]
		call := levelCall(c, levels.Timesteps[i], sigma)
		d := ofX(1).minus(ofX0(1)).times(1 / sigma)
		call.Next = ofX(1)
		// The reference chooses the order by i even where it begins late: derivatives that are not there yet are left
		// out.
		nodes := min(i+1, order)
		for k := range min(nodes, i-begin+1) {
			derivative := d
			if k > 0 {
				derivative = ofMemory(k-1, 1)
			}
			call.Next = sum(call.Next, derivative.times(lagrangeIntegral(levels.Sigmas[:i+2], nodes, k)))
		}
		call.remember(d, order-1)
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}

// lagrangeIntegral integrates, between the last two sigmas, the polynomial that is 1 at node k and 0 at the others,
// counted back from the last but one. Gauss's rule of two points is exact for the cubic.
func lagrangeIntegral(sigmas []float64, nodes, k int) float64 {
	from, to := sigmas[len(sigmas)-2], sigmas[len(sigmas)-1]
	node := func(j int) float64 { return sigmas[len(sigmas)-2-j] }
	basis := func(tau float64) float64 {
		product := 1.0
		for j := range nodes {
			if j != k {
				product *= (tau - node(j)) / (node(k) - node(j))
			}
		}
		return product
	}
	middle, half := (from+to)/2, (to-from)/2
	return half * (basis(middle-half/math.Sqrt(3)) + basis(middle+half/math.Sqrt(3)))
}
