package optim

import (
	"errors"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// Lion are the settings of Chen et al. 2023 (arXiv:2302.06675). Every parameter moves by the learning rate, so that
// wants to be three to ten times smaller than AdamW's, and the weight decay as much larger.
type Lion struct {
	Beta1 float64 `json:"lion_beta1" name:"lion-beta1" default:"0.9" help:"Decay of Lion's direction; give it a third to a tenth of AdamW's learning rate." resume:"same"`
	Beta2 float64 `json:"lion_beta2" name:"lion-beta2" default:"0.99" help:"Decay of Lion's moment." resume:"same"`
}

func (l Lion) validate() error {
	return errors.Join(decayInRange("lion_beta1", l.Beta1), decayInRange("lion_beta2", l.Beta2))
}

// lionMethod remembers one moment: exp_avg.
type lionMethod struct {
	Lion
	decay   float64
	moments moments
}

func (l lionMethod) Slots(spec nn.Spec) []Slot { return l.moments.slots("exp_avg", spec) }

func (l lionMethod) Rates(learningRate float64, _ int) []float64 {
	return []float64{learningRate, 1 - learningRate*l.decay}
}

func (l lionMethod) Update(c Change) (*Node, []*Node) {
	m := l.moments.read(c.State, c.Param.Shape(), signed)
	// θ ← (1-ηλ)θ - η·sign(β₁m + (1-β₁)g), m ← β₂m + (1-β₂)g
	direction := Sign(Add(MulScalar(m, l.Beta1), MulScalar(c.Grad, 1-l.Beta1)))
	next := Sub(Mul(c.Param, c.Rates[1]), Mul(c.Rates[0], direction))
	m = Add(MulScalar(m, l.Beta2), MulScalar(c.Grad, 1-l.Beta2))
	return next, c.kept(l.moments.write(c, 0, m, signed))
}
