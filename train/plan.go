package train

import (
	"context"

	"limner/xla"
)

// Part is a program of an optimizer step.
type Part struct {
	Name    string
	Program *xla.Program
	Runs    int // in a step
}

// Plan compiles what an optimizer step runs, in its order, and nothing else.
func (r *Run) Plan(ctx context.Context) ([]Part, error) {
	s, err := newStepper(ctx, r.Backend, r.Objective, r.Options.settings(r.Backend))
	if err != nil {
		return nil, err
	}
	return s.parts(), nil
}

// settings are what the options say of the step on a backend.
func (o Options) settings(b *xla.Backend) stepSettings {
	return stepSettings{
		optimizer: o.Optimizer, ema: o.EMA != nil, accumulation: o.Accumulation, inTwo: o.Accumulation > 1 || b.CPU(),
		fsdp: o.FSDP, checkpoint: o.GradientCheckpointing, memory: o.MaxDeviceMemory,
	}
}
