package train

import (
	"context"

	"limner/xla"
)

// PlanStep compiles the step of an objective as a run with these options would, and nothing else. Of an optimizer step of several batches
// the program of a batch comes first, and what makes the step from the sums second.
func PlanStep(ctx context.Context, b *xla.Backend, objective Objective, o Options) ([]*xla.Program, error) {
	s, err := newStepper(ctx, b, objective, o.settings())
	if err != nil {
		return nil, err
	}
	if s.gradients != nil {
		return []*xla.Program{s.gradients, s.program}, nil
	}
	return []*xla.Program{s.program}, nil
}

// settings are what the options say of the step.
func (o Options) settings() stepSettings {
	return stepSettings{optimizer: o.Optimizer, ema: o.EMA != nil, accumulation: o.Accumulation, fsdp: o.FSDP, checkpoint: o.GradientCheckpointing}
}
