// Package schedule computes what the schedulers of diffusers do, as numbers: a Schedule has the coefficients of every
// step.
package schedule

import (
	"fmt"
	"math"
	"slices"

	"limner/models/noise"
)

// Schedule is what a scheduler does, computed ahead for a number of steps. Between two calls of the network every
// scheduler is linear in the latents x, the network's output, the predicted x̂₀, a few remembered tensors and fresh
// noise; only x̂₀ may be clipped. So a Schedule is numbers, and one compiled program follows them all.
type Schedule struct {
	Scheduler      string    // the class of diffusers
	InitNoiseSigma float64   // the first latents are unit noise times this
	Sigmas         []float64 // the noise levels from the first to the final one, in the classes that have them
	Steps          int       // denoising steps; some schedulers call the network more often
	Calls          []Call
	ClipRange      float64   // x̂₀ is clipped to ±ClipRange; 0: it is not
	Threshold      Threshold // of x̂₀
}

// Call is one evaluation of the network and the linear step after it.
type Call struct {
	Timestep   float64 // the network is told, possibly between two of training's
	InputScale float64 // the network sees InputScale·x
	// Signal and Sigma noise a clean image to this call: x = Signal·x₀ + Sigma·ε.
	Signal, Sigma float64
	X0            [2]float64     // x̂₀ = X0[0]·x + X0[1]·output, before it is clipped
	Next          Form           // the next x
	Memory        [Memories]Form // the next memory
	Noise         bool           // whether fresh noise is drawn
}

// Memories is how many tensors the schedulers remember from call to call: PNDM's Runge-Kutta steps need three outputs,
// the x they began at and a sum.
const Memories = 5

// Form is a linear combination of x, the output, x̂₀, the memory and the noise, in this order.
type Form [FormSize]float64

const (
	columnX = iota
	columnOutput
	columnX0
	columnMemory
	columnNoise = columnMemory + Memories
	// FormSize is how many factors a Form has.
	FormSize = columnNoise + 1
)

func ofX(k float64) Form { return Form{columnX: k} }

func ofOutput(k float64) Form { return Form{columnOutput: k} }

func ofX0(k float64) Form { return Form{columnX0: k} }

func ofNoise(k float64) Form { return Form{columnNoise: k} }

func ofMemory(i int, k float64) Form { f := Form{}; f[columnMemory+i] = k; return f }

// times scales a form.
func (f Form) times(k float64) Form {
	for i := range f {
		if f[i] != 0 { // what has no share has none of an infinite k either
			f[i] *= k
		}
	}
	return f
}

// sum adds forms.
func sum(forms ...Form) Form {
	var out Form
	for _, f := range forms {
		for i, v := range f {
			out[i] += v
		}
	}
	return out
}

// minus subtracts a form.
func (f Form) minus(g Form) Form { return sum(f, g.times(-1)) }

// remember puts a form before what is remembered of kept forms, of which the oldest is dropped.
func (c *Call) remember(f Form, kept int) {
	c.Memory[0] = f
	for i := 1; i < kept; i++ {
		c.Memory[i] = ofMemory(i-1, 1)
	}
}

// predictedX0 are the factors of x and the output in x̂₀, where x = α·x₀ + σ·ε.
func predictedX0(c noise.Config, alpha, sigma float64) [2]float64 {
	switch c.PredictionType {
	case noise.VPrediction: // v = α·ε - σ·x₀ (Salimans and Ho 2022, arXiv:2202.00512)
		return [2]float64{alpha, -sigma}
	case noise.Sample:
		return [2]float64{0, 1}
	case noise.FlowPrediction: // ε - x₀, with α = 1-σ
		return [2]float64{1, -sigma}
	}
	return [2]float64{1 / alpha, -sigma / alpha}
}

// predictedEpsilon is ε̂ by the output as it is, where x = α·x₀ + σ·ε.
func predictedEpsilon(c noise.Config, alpha, sigma float64) Form {
	switch c.PredictionType {
	case noise.VPrediction:
		return sum(ofOutput(alpha), ofX(sigma))
	case noise.Sample:
		return ofX(1).minus(ofOutput(alpha)).times(1 / sigma)
	case noise.FlowPrediction:
		return sum(ofX(1), ofOutput(alpha))
	}
	return ofOutput(1)
}

// alphas give ᾱ_t, and what stands for it after the last step.
type alphas struct {
	cumprod []float32
	final   float64
}

func newAlphas(c noise.Config) alphas {
	a := alphas{cumprod: c.AlphasCumprod(), final: 1}
	if !c.SetAlphaToOne {
		a.final = float64(a.cumprod[0])
	}
	return a
}

func (a alphas) at(t int) float64 {
	if t < 0 {
		return a.final
	}
	return float64(a.cumprod[t])
}

// call begins a Call at timestep t, for x = √ᾱ_t·x₀ + √(1-ᾱ_t)·ε.
func (a alphas) call(c noise.Config, t int) Call {
	signal, sigma := math.Sqrt(a.at(t)), math.Sqrt(1-a.at(t))
	return Call{Timestep: float64(t), InputScale: 1, Signal: signal, Sigma: sigma, X0: predictedX0(c, signal, sigma)}
}

// levelCall begins a Call for x = x₀ + σ·ε, which the network sees as √ᾱ·x₀ + √(1-ᾱ)·ε.
func levelCall(c noise.Config, t, sigma float64) Call {
	alpha := 1 / math.Sqrt(sigma*sigma+1)
	x0 := predictedX0(c, alpha, sigma*alpha)
	return Call{Timestep: t, InputScale: alpha, Signal: 1, Sigma: sigma, X0: [2]float64{alpha * x0[0], x0[1]}}
}

// initialSigma is the noise that the classes with x = x₀ + σ·ε begin at.
func initialSigma(c noise.Config, sigmas []float64) float64 {
	largest := slices.Max(sigmas)
	if c.TimestepSpacing == "leading" {
		return math.Sqrt(largest*largest + 1)
	}
	return largest
}

// StepsDone is how many of Steps are done after so many calls, as diffusers' progress bars count: the calls by which
// PNDM warms up are none, two of Heun's are one.
func (s Schedule) StepsDone(calls int) int {
	order := 1
	if s.Scheduler == noise.Heun {
		order = 2
	}
	if calls >= len(s.Calls) {
		return s.Steps
	}
	warmUp := max(len(s.Calls)-s.Steps*order, 0)
	return max(calls-warmUp, 0) / order
}

// finish adds what the config says of x̂₀ and checks that float32 holds the numbers.
func (s Schedule) finish(c noise.Config) (Schedule, error) {
	s.Scheduler = c.ClassName
	if c.Thresholding {
		s.Threshold = Threshold{Ratio: c.DynamicThresholdingRatio, Max: c.SampleMaxValue}
	} else if c.ClipSample {
		s.ClipRange = c.ClipSampleRange
	}
	for i, call := range s.Calls {
		for _, v := range append(s.Coefficients(i), float32(call.Signal), float32(call.Sigma),
			float32(s.InitNoiseSigma)) {
			if v := float64(v); math.IsNaN(v) || math.IsInf(v, 0) {
				return Schedule{},
					fmt.Errorf("%s: a coefficient at timestep %g is %g: use another prediction_type or spacing",
						c.ClassName, call.Timestep, v)
			}
		}
	}
	return s, nil
}

// The offsets in the vector of a Call's coefficients: the timestep, the input scale, the two factors of x̂₀, the range
// that x̂₀ is clipped to, and the forms of the next x and of the next memory, each of FormSize numbers.
const (
	OffsetTimestep = iota
	OffsetInputScale
	OffsetX0
	OffsetClip  = OffsetX0 + 2
	OffsetForms = OffsetClip + 1
	// CoefficientCount is the vector's length.
	CoefficientCount = OffsetForms + (1+Memories)*FormSize
)

// Coefficients is the vector that brings call i to the devices: an input of the one program that follows all schedules.
func (s Schedule) Coefficients(i int) []float32 {
	c := s.Calls[i]
	clip := s.ClipRange
	if clip == 0 {
		clip = math.MaxFloat32
	}
	out := make([]float32, 0, CoefficientCount)
	for _, v := range []float64{c.Timestep, c.InputScale, c.X0[0], c.X0[1], clip} {
		out = append(out, float32(v))
	}
	for _, form := range append([]Form{c.Next}, c.Memory[:]...) {
		for _, v := range form {
			out = append(out, float32(v))
		}
	}
	return out
}

// Threshold is the dynamic thresholding of Saharia et al. 2022 (arXiv:2205.11487): x̂₀ is clipped to ±s and divided by
// s, where s is the quantile Ratio of an image's |x̂₀|, but at least 1 and at most Max. The zero Threshold does
// nothing.
type Threshold struct {
	Ratio, Max float64
}

// Quantile says between which of n sorted values the quantile lies: that of an index and the next, which has the
// weight.
func (t Threshold) Quantile(n int) (below int, weight float64) {
	at := t.Ratio * float64(n-1)
	below = min(int(at), n-1)
	return below, at - float64(below)
}
