package train

import (
	"context"

	"limner/train/step"
	"limner/xla"
)

// Plan compiles what an optimizer step runs, in its order, and nothing else.
func (r *Run) Plan(ctx context.Context) ([]step.Part, error) {
	s, err := step.Compile(ctx, r.Backend, r.Objective, r.Options.settings(r.Backend))
	if err != nil {
		return nil, err
	}
	return s.Parts(), nil
}

// settings are what the options say of the step on a backend.
func (o Options) settings(b *xla.Backend) step.Settings {
	return step.Settings{
		Optimizer: o.Optimizer, EMA: o.EMA != nil, Accumulation: o.Accumulation, InTwo: o.Accumulation > 1 || b.CPU(),
		FSDP: o.FSDP, Checkpointing: o.GradientCheckpointing, Memory: o.MaxDeviceMemory,
	}
}
