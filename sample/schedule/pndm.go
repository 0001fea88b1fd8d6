package schedule

import (
	"fmt"
	"math"
	"slices"

	"limner/models/noise"
)

// newPNDM computes the schedule of the pseudo numerical methods of Liu et al. 2022 (arXiv:2202.09778): diffusers'
// PNDMScheduler. Three Runge-Kutta steps of four calls each begin, and linear multistep ones (Adams-Bashforth of order
// 4) follow; with skip_prk_steps a step of two calls and multistep ones of growing order begin instead.
func newPNDM(c noise.Config, steps, begin int, _ Options) (Schedule, error) {
	timesteps, err := pndmTimesteps(c, steps)
	if err != nil {
		return Schedule{}, err
	}
	s := pndm{noise: c, alphas: newAlphas(c), stride: c.NumTrainTimesteps / steps}
	schedule := Schedule{InitNoiseSigma: 1}
	for i, t := range timesteps[begin:] {
		call := s.call(c, t)
		switch {
		case c.SkipPRKSteps:
			s.multistep(&call, t, i)
		case i < prkCalls:
			s.rungeKutta(&call, timesteps[i/4*4], t, i)
		default:
			s.multistep(&call, t, 4)
		}
		schedule.Calls = append(schedule.Calls, call)
	}
	return schedule.finish(c)
}

// prkCalls are the calls of three Runge-Kutta steps.
const prkCalls = 12

// The memory of PNDM: outputs from 0 on, the newest first, the x that a step began at, and the sum of a Runge-Kutta
// step.
const (
	pndmX   = 3
	pndmSum = 4
)

// pndm is what the steps need to know.
type pndm struct {
	noise noise.Config
	alphas
	stride int
}

// multistep is the plms step of Adams-Bashforth with the outputs of order calls; the one of order 1 repeats the one of
// order 0 with the mean of the outputs at both of its ends.
func (s pndm) multistep(call *Call, t, order int) {
	e := [...]Form{ofOutput(1), ofMemory(0, 1), ofMemory(1, 1), ofMemory(2, 1)}
	switch order {
	case 0:
		call.Next = s.transfer(ofX(1), e[0], t, t-s.stride)
		call.remember(e[0], 3)
		call.Memory[pndmX] = ofX(1)
		return
	case 1:
		mean := sum(e[0], e[1]).times(1. / 2)
		call.Next = s.transfer(ofMemory(pndmX, 1), mean, t+s.stride, t)
		call.Memory[0] = e[1]
		return
	case 2:
		e[0] = e[0].times(3. / 2).minus(e[1].times(1. / 2))
	case 3:
		e[0] = sum(e[0].times(23./12), e[1].times(-16./12), e[2].times(5./12))
	default:
		e[0] = sum(e[0].times(55./24), e[1].times(-59./24), e[2].times(37./24), e[3].times(-9./24))
	}
	call.Next = s.transfer(ofX(1), e[0], t, t-s.stride)
	call.remember(ofOutput(1), 3)
}

// rungeKutta is call i of the prk steps, at timestep t of one that began at timestep from.
func (s pndm) rungeKutta(call *Call, from, t, i int) {
	e, x := ofOutput(1), ofMemory(pndmX, 1)
	to := t
	if i%2 == 0 {
		to -= s.stride / 2
	}
	for m := range call.Memory {
		call.Memory[m] = ofMemory(m, 1)
	}
	switch i % 4 {
	case 0:
		x = ofX(1)
		call.remember(e, 3)
		call.Memory[pndmX], call.Memory[pndmSum] = x, e.times(1./6)
	case 1, 2:
		call.Memory[pndmSum] = sum(ofMemory(pndmSum, 1), e.times(1./3))
	case 3:
		e = sum(ofMemory(pndmSum, 1), e.times(1./6))
	}
	call.Next = s.transfer(x, e, from, to)
}

// transfer takes x from timestep t to s by an output (equation 11):
// x_s = √(ᾱ_s/ᾱ_t)·x - (ᾱ_s-ᾱ_t)·ε̂ / (ᾱ_t·√(1-ᾱ_s) + √(ᾱ_t·(1-ᾱ_t)·ᾱ_s)).
func (s pndm) transfer(x, output Form, t, to int) Form {
	alphaT, alphaS := s.at(min(t, len(s.cumprod)-1)), s.at(to)
	epsilon := output
	if s.noise.PredictionType == noise.VPrediction {
		epsilon = sum(output.times(math.Sqrt(alphaT)), x.times(math.Sqrt(1-alphaT)))
	}
	denominator := alphaT*math.Sqrt(1-alphaS) + math.Sqrt(alphaT*(1-alphaT)*alphaS)
	return x.times(math.Sqrt(alphaS / alphaT)).minus(epsilon.times((alphaS - alphaT) / denominator))
}

// pndmTimesteps lists the timesteps of all calls.
func pndmTimesteps(c noise.Config, steps int) ([]int, error) {
	spaced, err := c.Timesteps(steps)
	if err != nil {
		return nil, err
	}
	if c.SkipPRKSteps {
		if steps > 1 {
			spaced = slices.Insert(spaced, 1, spaced[1])
		}
		return spaced, nil
	}
	if steps < 4 {
		return nil, fmt.Errorf("num_inference_steps %d: PNDM's Runge-Kutta steps want at least 4: "+
			"or set skip_prk_steps", steps)
	}
	half := c.NumTrainTimesteps / steps / 2
	var out []int
	for i := range 3 {
		from, to := spaced[i], spaced[i+1]
		out = append(out, from, to+half, to+half, to)
	}
	return append(out, spaced[3:]...), nil
}
