package noise

import (
	"fmt"
	"math"
	"slices"
)

// Timesteps lists n of the training timesteps, the noisiest first, spaced as in table 2 of Lin et al. 2023
// (arXiv:2305.08891).
func (c Config) Timesteps(n int) ([]int, error) {
	spaced, err := c.spaced(n, math.RoundToEven)
	out := make([]int, len(spaced))
	for i, t := range spaced {
		out[i] = int(t)
	}
	return out, err
}

// spaced is Timesteps for classes whose timesteps may be fractional. Those of "linspace" are rounded by round.
func (c Config) spaced(n int, round func(float64) float64) ([]float64, error) {
	total := c.NumTrainTimesteps
	if err := c.fits(n, func(n int) int {
		if c.TimestepSpacing == "leading" {
			return (n-1)*(total/n) + c.StepsOffset
		}
		return 0
	}); err != nil {
		return nil, err
	}
	switch c.TimestepSpacing {
	case "linspace":
		return down(linspace(0, float64(total-1), n), round), nil
	case "trailing":
		return c.trailing(n, total), nil
	}
	return c.leading(n, total/n), nil
}

// multistep lists n timesteps as the multistep solvers space them: n+1 points of which the last is dropped, below the
// timestep last.
func (c Config) multistep(n, last int) ([]float64, error) {
	if err := c.fits(n, func(n int) int {
		switch stride := last / (n + 1); {
		case last == 0 || c.TimestepSpacing != "trailing" && stride == 0:
			return c.NumTrainTimesteps
		case c.TimestepSpacing == "leading":
			return n*stride + c.StepsOffset
		}
		return 0
	}); err != nil {
		return nil, err
	}
	switch c.TimestepSpacing {
	case "linspace":
		return down(linspace(0, float64(last-1), n+1), math.RoundToEven)[:n], nil
	case "trailing":
		return c.trailing(n, last), nil
	}
	return c.leading(n+1, last/(n+1))[:n], nil
}

// fits fails if there are no n timesteps in the schedule, where first gives the noisiest of n. The error says how many
// there can be.
func (c Config) fits(n int, first func(n int) int) error {
	total := c.NumTrainTimesteps
	if n < 1 || n > total {
		return fmt.Errorf("num_inference_steps %d: want 1 to %d, the schedule's num_train_timesteps", n, total)
	}
	if first(n) < total {
		return nil
	}
	for m := n - 1; m >= 1; m-- {
		if first(m) < total {
			return fmt.Errorf("num_inference_steps %d with steps_offset %d and timestep_spacing %q reaches beyond the "+
				"last timestep, %d: use %d",
				n, c.StepsOffset, c.TimestepSpacing, total-1, m)
		}
	}
	return fmt.Errorf("steps_offset %d leaves no timestep before the last one, %d", c.StepsOffset, total-1)
}

func (c Config) leading(n, stride int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = float64((n-1-i)*stride + c.StepsOffset)
	}
	return out
}

// trailing spaces n timesteps from the last one down, and keeps those below last.
func (c Config) trailing(n, last int) []float64 {
	stride := float64(c.NumTrainTimesteps) / float64(n)
	delta := (float64(last) - stride) - float64(last) // as numpy's arange rounds it
	if last < c.NumTrainTimesteps {
		n = int(math.Ceil(float64(last) / stride))
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = math.RoundToEven(float64(last)+float64(float64(i)*delta)) - 1
	}
	return out
}

// down rounds values and reverses their order.
func down(values []float64, round func(float64) float64) []float64 {
	for i, v := range values {
		values[i] = round(v)
	}
	slices.Reverse(values)
	return values
}

// linspace is numpy's: n evenly spaced values from start to end.
func linspace(start, end float64, n int) []float64 {
	out := make([]float64, n)
	if n == 1 {
		out[0] = start
		return out
	}
	step := (end - start) / float64(n-1)
	for i := range out {
		out[i] = float64(float64(i)*step) + start
	}
	out[n-1] = end
	return out
}

// single rounds to float32, as the reference stores timesteps and noise levels.
func single(x float64) float64 { return float64(float32(x)) }

// truncated drops fractions.
func truncated(timesteps []float64) []float64 { return mapped(timesteps, math.Trunc) }

func mapped(x []float64, f func(float64) float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = f(v)
	}
	return out
}
