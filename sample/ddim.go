package sample

import (
	"fmt"
	"math"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/noise"
)

// DDIM is the deterministic sampler of Song, Meng and Ermon 2020 (arXiv:2010.02502): diffusers' DDIMScheduler with
// η = 0 and timesteps spaced "leading".
type DDIM struct {
	Noise noise.Config
}

// Coefficients are what one step needs to know of the noise schedule. ᾱ_s belongs to the timestep the step leads to.
type Coefficients struct {
	Timestep   float32
	Signal     float32 // √ᾱ_t
	Sigma      float32 // √(1-ᾱ_t)
	NextSignal float32 // √ᾱ_s
	NextSigma  float32 // √(1-ᾱ_s)
}

// coefficientCount is the length of the vector that brings Coefficients to the devices.
const coefficientCount = 5

func (c Coefficients) vector() []float32 {
	return []float32{c.Timestep, c.Signal, c.Sigma, c.NextSignal, c.NextSigma}
}

// Steps lists the coefficients of n steps, from the noisiest on.
func (d DDIM) Steps(n int) ([]Coefficients, error) {
	total := d.Noise.NumTrainTimesteps
	if n < 1 || n > total {
		return nil, fmt.Errorf("num_inference_steps %d: want 1 to %d, the schedule's num_train_timesteps", n, total)
	}
	if d.last(n) >= total {
		most := n
		for most > 1 && d.last(most) >= total {
			most--
		}
		return nil, fmt.Errorf("num_inference_steps %d with steps_offset %d starts at timestep %d, beyond the last one, %d: use %d",
			n, d.Noise.StepsOffset, d.last(n), total-1, most)
	}
	alphas := d.Noise.AlphasCumprod()
	final := float64(1)
	if !d.Noise.SetAlphaToOne {
		final = float64(alphas[0])
	}
	stride := total / n
	steps := make([]Coefficients, n)
	for i := range steps {
		t := (n-1-i)*stride + d.Noise.StepsOffset
		alpha, next := float64(alphas[t]), final
		if s := t - stride; s >= 0 {
			next = float64(alphas[s])
		}
		steps[i] = Coefficients{
			Timestep: float32(t), Signal: float32(math.Sqrt(alpha)), Sigma: float32(math.Sqrt(1 - alpha)),
			NextSignal: float32(math.Sqrt(next)), NextSigma: float32(math.Sqrt(1 - next)),
		}
	}
	return steps, nil
}

// last is the first timestep of n steps, the largest.
func (d DDIM) last(n int) int {
	return (n-1)*(d.Noise.NumTrainTimesteps/n) + d.Noise.StepsOffset
}

// Step leads from x_t [batch, height, width, channels] to x_s, given the network's prediction of the same shape and the
// vector of Coefficients, all float32 (equation 12 with σ = 0):
// x_s = √ᾱ_s·x̂₀ + √(1-ᾱ_s)·ε̂.
func (d DDIM) Step(x, prediction, coefficients *Node) *Node {
	coefficients.AssertDims(coefficientCount)
	at := func(i int) *Node { return Reshape(Slice(coefficients, AxisElem(i))) }
	signal, sigma, nextSignal, nextSigma := at(1), at(2), at(3), at(4)
	var x0, eps *Node
	if d.Noise.PredictionType == noise.VPrediction {
		// v = √ᾱ_t·ε - √(1-ᾱ_t)·x₀ (Salimans and Ho 2022, arXiv:2202.00512)
		v := prediction
		x0 = Sub(Mul(signal, x), Mul(sigma, v))
		eps = Add(Mul(signal, v), Mul(sigma, x))
	} else {
		// x_t = √ᾱ_t·x₀ + √(1-ᾱ_t)·ε
		eps = prediction
		x0 = Div(Sub(x, Mul(sigma, eps)), signal)
	}
	if d.Noise.ClipSample {
		x0 = ClipScalar(x0, -1, 1) // ε̂ stays what it was: use_clipped_model_output is false
	}
	return Add(Mul(nextSignal, x0), Mul(nextSigma, eps))
}
