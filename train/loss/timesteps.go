package loss

import (
	"errors"
	"fmt"
	"math"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// Timesteps say which timesteps are trained, and which of them more often: flags of limner train, under the names of
// diffusers' train_text_to_image_sdxl.py. The zero value draws all alike.
type Timesteps struct {
	Min        int     `json:"min_timestep" name:"min-timestep" default:"0" help:"First timestep that is trained." resume:"same"`
	Max        int     `json:"max_timestep" name:"max-timestep" placeholder:"N" help:"First timestep after those that are trained; without it, all of the model's are." resume:"same"`
	Bias       string  `json:"timestep_bias_strategy" name:"timestep-bias-strategy" default:"none" help:"Timesteps to train more often: none, earlier, later or range." resume:"same"`
	Multiplier float64 `json:"timestep_bias_multiplier" name:"timestep-bias-multiplier" default:"1" help:"How many times as often." resume:"same"`
	Begin      int     `json:"timestep_bias_begin" name:"timestep-bias-begin" default:"0" help:"Of range: its first timestep." resume:"same"`
	End        int     `json:"timestep_bias_end" name:"timestep-bias-end" default:"1000" help:"Of range: the first timestep after it." resume:"same"`
	Portion    float64 `json:"timestep_bias_portion" name:"timestep-bias-portion" default:"0.25" help:"Of earlier and later: the share of all timesteps." resume:"same"`
}

// The values of Timesteps.Bias; "" is BiasNone.
const (
	BiasNone    = "none"
	BiasEarlier = "earlier" // the first timesteps, of little noise
	BiasLater   = "later"
	BiasRange   = "range"
)

// checkSteps reports every setting that does not fit a schedule of n timesteps.
func (s Timesteps) checkSteps(n int) error {
	var errs []error
	if end := s.end(n); end > n || s.Min >= n {
		errs = append(errs, fmt.Errorf("min_timestep, max_timestep: got %d and %d, want 0 ≤ min < max ≤ %d",
			s.Min, end, n))
	}
	if s.Bias == BiasRange && s.End > n {
		errs = append(errs,
			fmt.Errorf("timestep_bias_begin, timestep_bias_end: got %d and %d, want 0 ≤ begin < end ≤ %d",
				s.Begin, s.End, n))
	}
	return errors.Join(errs...)
}

// validate reports every setting that is out of range with any schedule.
func (s Timesteps) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Min < 0 || s.Max < 0 || s.Max > 0 && s.Min >= s.Max {
		bad("min_timestep, max_timestep: got %d and %d, want 0 ≤ min < max", s.Min, s.Max)
	}
	switch s.Bias {
	case "", BiasNone:
		return errors.Join(errs...)
	case BiasEarlier, BiasLater:
		if !(s.Portion >= 0 && s.Portion <= 1) {
			bad("timestep_bias_portion: got %g, want 0 to 1", s.Portion)
		}
	case BiasRange:
		if s.Begin < 0 || s.Begin >= s.End {
			bad("timestep_bias_begin, timestep_bias_end: got %d and %d, want 0 ≤ begin < end", s.Begin, s.End)
		}
	default:
		bad("timestep_bias_strategy: got %q, supported: none, earlier, later, range", s.Bias)
	}
	if !(s.Multiplier > 0) || math.IsInf(s.Multiplier, 0) {
		bad("timestep_bias_multiplier: got %g, want above 0", s.Multiplier)
	}
	return errors.Join(errs...)
}

func (s Timesteps) end(n int) int {
	if s.Max == 0 {
		return n
	}
	return s.Max
}

// chances of the n timesteps, which need not add up to 1.
func (s Timesteps) chances(n int) []float64 {
	begin, end := 0, 0
	switch biased := int(s.Portion * float64(n)); s.Bias {
	case BiasEarlier:
		end = biased
	case BiasLater:
		begin, end = n-biased, n
	case BiasRange:
		begin, end = s.Begin, s.End
	}
	chances := make([]float64, n)
	for t := s.Min; t < s.end(n); t++ {
		chances[t] = 1
		if t >= begin && t < end {
			chances[t] = s.Multiplier
		}
	}
	return chances
}

// draw draws int32 [batch] out of n timesteps.
func (s Timesteps) draw(d Draws, n, batch int) *Node {
	if d.Timesteps != nil {
		return d.Timesteps
	}
	if s.Bias == "" || s.Bias == BiasNone {
		return AddScalar(d.below(drawTimesteps, s.end(n)-s.Min, batch), float64(s.Min))
	}
	// A timestep is the number of limits that 32 random bits reach.
	limits := limits(s.chances(n))
	bits := ConvertDType(d.bits(drawTimesteps, batch), dtypes.Uint64)
	reached := GreaterOrEqual(InsertAxes(bits, -1), InsertAxes(Const(bits.Graph(), limits), 0)) // [batch, len(limits)]
	return ReduceSum(ConvertDType(reached, dtypes.Int32), -1)
}

// limits divides 2^32 in the ratio of the chances: number i is drawn between the limits i-1 and i. The numbers after
// the last that has a chance have no limits.
func limits(chances []float64) []uint64 {
	last, total := 0, 0.0
	for i, chance := range chances {
		total += chance
		if chance > 0 {
			last = i
		}
	}
	limits, sum := make([]uint64, last), 0.0
	for i := range limits {
		sum += chances[i]
		limits[i] = uint64(math.Round(sum / total * (1 << 32)))
	}
	return limits
}
