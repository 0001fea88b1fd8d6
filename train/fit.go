package train

import (
	"context"
	"errors"
	"strings"

	"limner/internal/refusal"
	"limner/train/optim"
)

// fit compiles the step and, where that does not fit the devices, the same step with gradient checkpointing. byNeed says that it came to
// that, or that it had in the life of the run before.
func (r *Run) fit(ctx context.Context, settings stepSettings) (*stepper, error) {
	settings.checkpoint = settings.checkpoint || r.byNeed
	s, first := newStepper(ctx, r.Backend, r.Objective, settings)
	var large *tooLarge
	if !errors.As(memoryError(first), &large) {
		return s, first
	}
	figures := large.Error()
	if !settings.checkpoint {
		r.logf("the training step does not fit the devices' memory (%s): compiling it with gradient checkpointing", figures)
		settings.checkpoint, r.byNeed = true, true
		s, err := newStepper(ctx, r.Backend, r.Objective, settings)
		if !errors.As(memoryError(err), &large) {
			return s, err
		}
		figures += ", with gradient checkpointing " + large.Error()
	}
	return nil, refusal.Errorf("the training step does not fit the devices' memory (%s): %s", figures, r.advice())
}

// advice says what makes a step smaller that was not done.
func (r *Run) advice() string {
	words := []string{"give a smaller --train_batch_size, with --gradient_accumulation_steps for the same images a step"}
	if r.Drawing != nil && !r.Recipe.CacheLatents {
		words = append(words, "--cache_latents")
	}
	if r.Options.Optimizer.Moments == optim.MomentsFloat32 {
		words = append(words, "--use_8bit_adam")
	}
	if r.Backend.Devices() > 1 && !r.Options.FSDP {
		words = append(words, "--fsdp")
	}
	return strings.Join(words, ", or ")
}
