package sample

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"limner/data/imaging"
	"limner/models/clip"
	"limner/sample/schedule"
)

// Request asks for images, one for each prompt. Its fields bear the names of diffusers' arguments.
type Request struct {
	Prompts           []string
	NegativePrompts   []string // one for each prompt, one for all, or none: "" or, where SDXL asks for them, zeros
	PromptStyle       clip.Style
	TruncatePrompts   bool   // a prompt ends after one chunk of the text encoder, as in diffusers; else it takes as many as it needs
	ClipSkip          int    // last layers of the text encoders to leave out
	Scheduler         string // a name that schedule.New knows; "" is the model's own
	schedule.Options         // strength is for Images only
	NumInferenceSteps int
	GuidanceScale     float64   // at most 1: no guidance, and the negative prompts go unused
	GuidanceRescale   float64   // 0 to 1: how far guidance is kept from raising the contrast
	LoRAScales        []float64 // one for each LoRA of the model; nil: 1 for each

	// Seeds has one seed for each image. Everything random about an image depends on its seed and size only.
	Seeds []uint64
	// Row is the row of the batch that the first image is drawn in, for one image alone. The rows before and behind it are copies. An image
	// is the same in every row, but on CPUs not always to the last bit.
	Row int
	// Latents replaces the noise drawn from Seeds: unit normals [images, height/8, width/8, channels].
	Latents []float32

	// Images to begin from [images, height, width, 3] in [-1, 1], or one for all.
	Images []float32
	// Masks [images, height, width], or one for all: 1 where Images are painted anew, 0 where they stay.
	Masks []float32

	// Conditions are, for each ControlNet, the conditioning images [images, height, width, channels] in [0, 1], or one for all images.
	Conditions [][]float32
	// ControlNetConditioningScale is what the residuals are multiplied by: one number for each ControlNet, or none: 1. 0 is no effect.
	ControlNetConditioningScale []float64
	// ControlGuidanceStart and End are the shares of the calls before and after which a ControlNet rests: one for each, or none: 0 and 1.
	ControlGuidanceStart, ControlGuidanceEnd []float64
	// GuessMode shows the ControlNets to the prompt's half of guidance only, and their residuals grow with depth.
	GuessMode bool

	// Height and width, or top and left, that SDXL is told: of the picture before it was cropped, of the crop, and of the
	// result. Where the first and the last are 0, it is the size of the images.
	OriginalSize, CropsCoordsTopLeft, TargetSize [2]int
	// What SDXL is told beside the negative prompt; where nothing is set, the same as beside the prompt.
	NegativeOriginalSize, NegativeCropsCoordsTopLeft, NegativeTargetSize [2]int

	// OnStep, if not nil, is called after each call of the network. step counts from 1 to total, over all rounds. latents copies
	// the latents of the images of the current round from the devices; it is of no use after OnStep has returned.
	OnStep func(step, total int, latents func() ([]float32, error))

	// OnImage is called with each image as soon as it is decoded, on another goroutine but for one image at a time. An error ends the drawing.
	OnImage func(Image) error

	draws func(image int, purpose uint64, size int) []float32 // replaces what is drawn from Seeds, in tests
}

// DefaultRequest has diffusers' defaults, and neither prompts nor seeds.
func DefaultRequest() Request {
	return Request{PromptStyle: clip.Plain, Options: schedule.DefaultOptions(), NumInferenceSteps: 50, GuidanceScale: 7.5}
}

// Image is one image of a request.
type Image struct {
	Index   int // in the request
	Picture *imaging.RGB
	Latents []float32 // [height/8, width/8, channels] after the last step, scaled as the UNet sees them
	Problem error     // what is wrong with it, such as NaN, or all of it black; nil where nothing is
}

// Result is what a request gave.
type Result struct {
	Images  []*imaging.RGB
	Latents []float32 // [images, height/8, width/8, channels] after the last step, scaled as the UNet sees them

	// Problems say of each image what is wrong with it, such as NaN, or all of it black; nil where nothing is.
	Problems []error
}

// Err joins the problems.
func (r *Result) Err() error {
	var errs []error
	for i, problem := range r.Problems {
		if problem != nil {
			errs = append(errs, fmt.Errorf("image %d: %w", i, problem))
		}
	}
	return errors.Join(errs...)
}

// check reports every field of a request that does not fit the pipeline. The schedule is the request's.
func (p *Pipeline) check(r Request, sched schedule.Schedule) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	n := len(r.Prompts)
	if n == 0 {
		return errors.New("no prompts: give one for each image")
	}
	if most := p.shape.Batch - 1; r.Row < 0 || r.Row > most || r.Row > 0 && n > 1 {
		bad("row %d for %d images: want 0 to %d for one image, 0 for several", r.Row, n, most)
	}
	if k := len(r.NegativePrompts); k > 1 && k != n {
		bad("%d negative prompts for %d images: give one for each, one for all, or none", k, n)
	}
	if s := r.GuidanceScale; math.IsNaN(s) || math.IsInf(s, 0) || s < 0 {
		bad("guidance_scale %g: want a number of at least 0", s)
	}
	if s := r.GuidanceRescale; !(s >= 0 && s <= 1) {
		bad("guidance_rescale %g: want 0 to 1", s)
	}
	if k := len(p.model.LoRAs); r.LoRAScales != nil && len(r.LoRAScales) != k {
		bad("%d LoRA scales for %d LoRAs: give one for each", len(r.LoRAScales), k)
	}
	if most := p.model.maxClipSkip(); r.ClipSkip < 0 || r.ClipSkip > most {
		bad("clip_skip %d: want 0 to %d, the layers that the text encoder can do without", r.ClipSkip, most)
	}
	if want := n * p.latentSize(); r.Latents != nil && len(r.Latents) != want {
		bad("%d values of latents, want %d: %d images of %d×%d×%d", len(r.Latents), want, n, p.latentHeight(), p.latentWidth(), p.channels())
	}
	// With latents, only what else is random needs seeds.
	random := r.Latents == nil || r.Images != nil || slices.ContainsFunc(sched.Calls, func(c schedule.Call) bool { return c.Noise })
	if len(r.Seeds) != n && random && r.draws == nil {
		bad("%d seeds for %d images: give one for each", len(r.Seeds), n)
	}
	return errors.Join(append(errs, p.checkImages(r), p.checkControl(r))...)
}

// checkImages reports what does not fit of the images to begin from.
func (p *Pipeline) checkImages(r Request) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	n, pixels := len(r.Prompts), p.shape.Height*p.shape.Width
	if k := len(r.Images); r.Images != nil && k != 3*pixels && k != 3*pixels*n {
		bad("%d values of images, want %d, %d for each of %d images, or one for all", k, 3*pixels*n, 3*pixels, n)
	}
	if k := len(r.Masks); r.Masks != nil && k != pixels && k != pixels*n {
		bad("%d values of masks, want %d, %d for each of %d images, or one for all", k, pixels*n, pixels, n)
	}
	switch nine := p.model.inpaints(); {
	case r.Masks != nil && r.Images == nil:
		bad("masks without images to paint in")
	case nine && r.Masks == nil:
		bad("the model is for inpainting (%d in_channels): give images and masks", p.model.Pipeline.UNet.InChannels)
	}
	if r.Images == nil && r.Strength < 1 {
		bad("strength %g without images to begin from", r.Strength)
	}
	return errors.Join(errs...)
}

// checkControl reports what does not fit the ControlNets.
func (p *Pipeline) checkControl(r Request) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	n, nets := len(r.Prompts), len(p.model.ControlNets)
	switch {
	case nets == 0 && r.Conditions != nil:
		bad("conditioning images without a ControlNet")
	case len(r.Conditions) != nets:
		bad("conditioning images for %d of %d ControlNets", len(r.Conditions), nets)
	default:
		for i, c := range r.Conditions {
			if one := p.conditionSize(i); len(c) != one && len(c) != n*one {
				bad("%d values of conditioning images, want %d, %d for each of %d images, or one for all", len(c), n*one, one, n)
			}
		}
	}
	for _, field := range []struct {
		name   string
		values []float64
		most   float64
	}{
		{"controlnet_conditioning_scale", r.ControlNetConditioningScale, math.MaxFloat32},
		{"control_guidance_start", r.ControlGuidanceStart, 1},
		{"control_guidance_end", r.ControlGuidanceEnd, 1},
	} {
		if k := len(field.values); k != 0 && k != nets {
			bad("%s: %d numbers for %d ControlNets: give one for each", field.name, k, nets)
		}
		for _, v := range field.values {
			if !(v >= 0 && v <= field.most) {
				want := "a number of at least 0"
				if field.most == 1 {
					want = "0 to 1"
				}
				bad("%s %g: want %s", field.name, v, want)
			}
		}
	}
	for i := range min(len(r.ControlGuidanceStart), nets) {
		if start, end := r.ControlGuidanceStart[i], nth(r.ControlGuidanceEnd, i, 1); start >= end {
			bad("control_guidance_start %g: want less than control_guidance_end %g", start, end)
		}
	}
	return errors.Join(errs...)
}

// nth is value i, or what stands for it where there is none.
func nth(values []float64, i int, otherwise float64) float64 {
	if i < len(values) {
		return values[i]
	}
	return otherwise
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
