package sample

import (
	"errors"
	"fmt"
	"math"

	"limner/data"
	"limner/models/clip"
)

// Request asks for images, one for each prompt. Its fields bear the names of diffusers' arguments.
type Request struct {
	Prompts                     []string
	NegativePrompts             []string // one for each prompt, one for all, or none: "" or, where SDXL asks for them, zeros
	PromptStyle                 clip.Style
	TruncatePrompts             bool // a prompt ends after one chunk of the text encoder, as in diffusers; else it takes as many as it needs
	ClipSkip                    int  // last layers of the text encoders to leave out
	NumInferenceSteps           int
	GuidanceScale               float64   // at most 1: no guidance, and the negative prompts go unused
	LoRAScales                  []float64 // one for each LoRA of the model; nil: 1 for each
	ControlNetConditioningScale float64   // what the ControlNet's residuals are multiplied by; 0 is no effect

	// Seeds has one seed for each image. The noise that an image starts from depends on its seed and size only.
	Seeds []uint64
	// Latents replaces the noise drawn from Seeds: unit normals [images, height/8, width/8, channels].
	Latents []float32
	// Conditions are the conditioning images [images, height, width, channels] in [0, 1], or one for all images.
	Conditions []float32

	// Height and width, or top and left, that SDXL is told: of the picture before it was cropped, of the crop, and of the
	// result. Where the first and the last are 0, it is the size of the images.
	OriginalSize, CropsCoordsTopLeft, TargetSize [2]int

	// OnStep, if not nil, is called after each step. step counts from 1 to total, over all rounds. latents copies the
	// latents of the images of the current round from the devices; it is of no use after OnStep has returned.
	OnStep func(step, total int, latents func() ([]float32, error))
}

// DefaultRequest has diffusers' defaults, and neither prompts nor seeds.
func DefaultRequest() Request {
	return Request{PromptStyle: clip.Plain, NumInferenceSteps: 50, GuidanceScale: 7.5, ControlNetConditioningScale: 1}
}

// Result is what a request gave.
type Result struct {
	Images  []*data.RGB
	Latents []float32 // [images, height/8, width/8, channels] after the last step, scaled as the UNet sees them
}

// check reports every field of a request that does not fit the pipeline.
func (p *Pipeline) check(r Request) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	n := len(r.Prompts)
	if n == 0 {
		return errors.New("no prompts: give one for each image")
	}
	if k := len(r.NegativePrompts); k > 1 && k != n {
		bad("%d negative prompts for %d images: give one for each, one for all, or none", k, n)
	}
	for name, scale := range map[string]float64{"guidance_scale": r.GuidanceScale, "controlnet_conditioning_scale": r.ControlNetConditioningScale} {
		if math.IsNaN(scale) || math.IsInf(scale, 0) || scale < 0 {
			bad("%s %g: want a number of at least 0", name, scale)
		}
	}
	if k := len(p.model.LoRAs); r.LoRAScales != nil && len(r.LoRAScales) != k {
		bad("%d LoRA scales for %d LoRAs: give one for each", len(r.LoRAScales), k)
	}
	if most := p.model.maxClipSkip(); r.ClipSkip < 0 || r.ClipSkip > most {
		bad("clip_skip %d: want 0 to %d, the layers that the text encoder can do without", r.ClipSkip, most)
	}
	switch {
	case r.Latents != nil:
		if want := n * p.latentSize(); len(r.Latents) != want {
			bad("%d values of latents, want %d: %d images of %d×%d×%d", len(r.Latents), want, n, p.latentHeight(), p.latentWidth(), p.channels())
		}
	case len(r.Seeds) != n:
		bad("%d seeds for %d images: give one for each", len(r.Seeds), n)
	}
	switch one := p.conditionSize(); {
	case p.model.ControlNet == nil && r.Conditions != nil:
		bad("conditioning images without a ControlNet")
	case p.model.ControlNet != nil && len(r.Conditions) != one && len(r.Conditions) != n*one:
		bad("%d values of conditioning images, want %d, %d for each of %d images, or one for all", len(r.Conditions), n*one, one, n)
	}
	return errors.Join(errs...)
}

// negative is the negative prompt of image i.
func (r Request) negative(i int) string {
	switch len(r.NegativePrompts) {
	case 0:
		return ""
	case 1:
		return r.NegativePrompts[0]
	}
	return r.NegativePrompts[i]
}
