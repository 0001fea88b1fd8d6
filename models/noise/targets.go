package noise

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// Add noises clean samples x0 [batch, ...] to timesteps int32 [batch] with noise of the same shape:
// x_t = √ᾱ_t·x₀ + √(1-ᾱ_t)·ε.
func (c Config) Add(x0, noise, timesteps *Node) *Node {
	signal, sigma := c.levels(x0, timesteps)
	return Add(Mul(signal, x0), Mul(sigma, noise))
}

// Target is what the network must predict for samples noised by Add: ε, x₀, or v = √ᾱ_t·ε - √(1-ᾱ_t)·x₀ (Salimans and
// Ho 2022, arXiv:2202.00512). Flow matching adds noise in another way, so "flow_prediction" has no target here.
func (c Config) Target(x0, noise, timesteps *Node) *Node {
	switch c.PredictionType {
	case Epsilon:
		return noise
	case Sample:
		return x0
	case FlowPrediction:
		panic("prediction_type flow_prediction is no target of training: use epsilon or v_prediction")
	}
	signal, sigma := c.levels(x0, timesteps)
	return Sub(Mul(signal, noise), Mul(sigma, x0))
}

// levels gives √ᾱ_t and √(1-ᾱ_t) for each sample, shaped to multiply x.
func (c Config) levels(x, timesteps *Node) (signal, sigma *Node) {
	g := x.Graph()
	alphas := Gather(Const(g, c.AlphasCumprod()), InsertAxes(timesteps, -1)) // [batch]
	for alphas.Rank() < x.Rank() {
		alphas = InsertAxes(alphas, -1)
	}
	alphas = ConvertDType(alphas, dtypes.Float32)
	return Sqrt(alphas), Sqrt(OneMinus(alphas))
}
