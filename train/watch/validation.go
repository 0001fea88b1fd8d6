package watch

import (
	"errors"
	"fmt"

	"limner/controlnet/condition"
	"limner/internal/settings"
	"limner/models/clip"
)

// Validation says what a run draws and measures every some steps: flags of limner train, under the names of diffusers'
// scripts where those have one.
type Validation struct {
	Prompts           []string `name:"validation-prompt" aliases:"validation-prompts" sep:"none" placeholder:"TEXT" help:"Prompt to draw while training; may be given several times."`
	Images            []string `name:"validation-image" sep:"none" placeholder:"FILE" help:"Conditioning image for a ControlNet to draw with: one for all prompts, one for each, or several for one prompt."`
	Targets           []string `name:"validation-target" sep:"none" placeholder:"FILE" help:"Picture that a --validation_image, or a prompt, was taken from: diary.html shows it beside what is drawn. One for each."`
	Steps             int      `name:"validation-steps" default:"100" help:"Steps between validations; the last step has one too."`
	NumImages         int      `name:"num-validation-images" default:"4" help:"Images for each prompt, with the same noise every time."`
	NumInferenceSteps int      `name:"validation-inference-steps" default:"20" help:"Denoising steps of these images."`
	GuidanceScale     float64  `name:"validation-guidance-scale" default:"7.5" help:"How far they follow the prompt."`
	Scheduler         string   `name:"validation-scheduler" default:"unipc" help:"Their scheduler, as of limner sample."`
	Condition         string   `name:"validation-condition" default:"" placeholder:"NAME" help:"What --validation_image shows, such as canny or canny(low=50, high=100): it is taken from the images again, to measure how much of it they follow, beside images without the ControlNet. Of ${conditions}."`
	Data              []string `name:"validation-data-dir" sep:"none" placeholder:"DIR" help:"Parquet files of images that training does not see, for the validation loss by timesteps."`
	Rows              int      `name:"validation-rows" default:"256" help:"How many of them."`
}

// DefaultValidation has the defaults of diffusers' train_controlnet.py, whose validation draws with UniPC in 20 steps.
func DefaultValidation() Validation { return settings.Default[Validation]() }

// wanted says whether there is anything to validate.
func (v Validation) wanted() bool { return len(v.Prompts) > 0 || len(v.Data) > 0 }

// Validate reports every field that is out of range or does not fit another. control is whether a ControlNet is
// trained.
func (v Validation) Validate(control bool) error {
	if !v.wanted() {
		if len(v.Images) > 0 {
			return errors.New("validation_image needs validation_prompt")
		}
		if len(v.Targets) > 0 {
			return errors.New("validation_target needs validation_prompt")
		}
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, n := range map[string]int{
		"validation_steps": v.Steps, "num_validation_images": v.NumImages,
		"validation_inference_steps": v.NumInferenceSteps, "validation_rows": v.Rows,
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
	if n, pairs := len(v.Targets), max(prompts, images); n > 0 && n != pairs {
		bad("validation_target: got %d, want one for each of the %d prompts or images", n, pairs)
	}
	if v.Condition != "" {
		if s, err := condition.Parse(v.Condition); err != nil {
			errs = append(errs, fmt.Errorf("validation_condition: %w", err))
		} else if k := s.Kind(); k.Keypoints || k.Hides {
			bad("validation_condition: %s cannot be taken from images again", k.Name)
		} else if s.Random() {
			bad("validation_condition: %s is random: name the values that --validation_image was taken with", s)
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
