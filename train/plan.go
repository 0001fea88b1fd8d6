package train

import (
	"context"

	"limner/xla"
)

// Plan compiles what an optimizer step runs, and nothing else. Of one of several batches the program of a batch comes first, and what makes the step from
// the sums second.
func (r *Run) Plan(ctx context.Context) ([]*xla.Program, error) {
	s, err := newStepper(ctx, r.Backend, r.Objective, r.Options.settings())
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
	return stepSettings{optimizer: o.Optimizer, ema: o.EMA != nil, accumulation: o.Accumulation, fsdp: o.FSDP, checkpoint: o.GradientCheckpointing, memory: o.MaxDeviceMemory}
}
