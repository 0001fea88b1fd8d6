package watch

import (
	"errors"
	"fmt"

	"limner/controlnet/condition"
	"limner/models/clip"
	"limner/sample"
)

// Validation says what a run draws and measures every some steps, under the flags' names of diffusers' scripts where those have one.
type Validation struct {
	Steps             int // between validations
	Prompts           []string
	Images            []string // files of conditioning images: one for each prompt, or one for all; one prompt may go with all
	NumImages         int      // for each prompt
	NumInferenceSteps int
	GuidanceScale     float64
	Scheduler         string
	Condition         string   // what the conditioning images show, see [condition.Named]; "" measures nothing
	Data              []string // parquet files or folders of images that training does not see, for the loss
	Rows              int      // of them
}

// DefaultValidation has the defaults of diffusers' train_controlnet.py, whose validation draws with UniPC in 20 steps.
func DefaultValidation() Validation {
	return Validation{Steps: 100, NumImages: 4, NumInferenceSteps: 20, GuidanceScale: sample.DefaultRequest().GuidanceScale, Scheduler: "unipc", Rows: 256}
}

// wanted says whether there is anything to validate.
func (v Validation) wanted() bool { return len(v.Prompts) > 0 || len(v.Data) > 0 }

// Validate reports every field that is out of range or does not fit another. control is whether a ControlNet is trained.
func (v Validation) Validate(control bool) error {
	if !v.wanted() {
		if len(v.Images) > 0 {
			return errors.New("validation_image needs validation_prompt")
		}
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, n := range map[string]int{
		"validation_steps": v.Steps, "num_validation_images": v.NumImages, "validation_inference_steps": v.NumInferenceSteps, "validation_rows": v.Rows,
	} {
		if n < 1 {
			bad("%s: got %d, want at least 1", name, n)
		}
	}
	for _, prompt := range v.Prompts {
		if clip.HasLoRATag(prompt) {
			bad("validation_prompt: %q names a LoRA by <lora:…>, which is not applied here: take it out", prompt)
		}
	}
	const mostImages, mostSteps = 1000, 10_000
	if v.NumImages > mostImages {
		bad("num_validation_images: got %d, want 1 to %d", v.NumImages, mostImages)
	}
	if v.NumInferenceSteps > mostSteps {
		bad("validation_inference_steps: got %d, want 1 to %d", v.NumInferenceSteps, mostSteps)
	}
	if s := v.GuidanceScale; !(s >= 0 && s <= 1000) {
		bad("validation_guidance_scale: got %g, want 0 to 1000", s)
	}
	prompts, images := len(v.Prompts), len(v.Images)
	switch {
	case prompts > 0 && control && images == 0:
		bad("validation_prompt: a ControlNet draws with validation_image")
	case !control && images > 0:
		bad("validation_image: only a ControlNet draws with images")
	case images > 1 && prompts > 1 && images != prompts:
		bad("validation_image: got %d images for %d prompts, want one for each, or one of either", images, prompts)
	}
	if v.Condition != "" {
		if _, err := condition.Named(v.Condition); err != nil {
			errs = append(errs, fmt.Errorf("validation_condition: %w", err))
		}
		if images == 0 {
			bad("validation_condition needs validation_image")
		}
	}
	return errors.Join(errs...)
}

// pairs are the prompts and the images that go together.
func (v Validation) pairs() (prompts, images []string) {
	n := max(len(v.Prompts), len(v.Images))
	for i := range n {
		prompts = append(prompts, v.Prompts[min(i, len(v.Prompts)-1)])
		if len(v.Images) > 0 {
			images = append(images, v.Images[min(i, len(v.Images)-1)])
		}
	}
	return prompts, images
}
