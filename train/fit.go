package train

import (
	"context"
	"strings"

	"limner/internal/refusal"
	"limner/train/optim"
	"limner/train/step"
)

// fit compiles the step and, where that does not fit the devices, the same step with gradient checkpointing. byNeed
// says that it came to that, or that it had in the life of the run before.
func (r *Run) fit(ctx context.Context, settings step.Settings) (*step.Step, error) {
	settings.Checkpointing = settings.Checkpointing || r.byNeed
	s, first := step.Compile(ctx, r.Backend, r.Objective, settings)
	large := step.AsTooLarge(first)
	if large == nil {
		return s, first
	}
	figures := large.Error()
	if !settings.Checkpointing {
		r.logf("the training step does not fit the devices' memory (%s): compiling it with gradient checkpointing",
			figures)
		settings.Checkpointing, r.byNeed = true, true
		s, err := step.Compile(ctx, r.Backend, r.Objective, settings)
		if large = step.AsTooLarge(err); large == nil {
			return s, err
		}
		figures += ", with gradient checkpointing " + large.Error()
	}
	return nil, refusal.Errorf("the training step does not fit the devices' memory (%s): %s", figures, r.advice())
}

// advice says what makes a step smaller that was not done.
func (r *Run) advice() string {
	words := []string{
		"give a smaller --train_batch_size, with --gradient_accumulation_steps for the same images a step",
	}
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
