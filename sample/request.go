package sample

import (
	"errors"
	"fmt"

	"limner/data/imaging"
	"limner/internal/settings"
	"limner/sample/schedule"
)

// Request asks for images, one for each prompt. Its fields bear the names of diffusers' arguments.
type Request struct {
	Prompts         []string
	NegativePrompts []string // one for each prompt, one for all, or none: "" or, where SDXL asks for them, zeros
	Encoding
	Denoising
	schedule.Options           // strength is for Images only
	LoRAScales       []float64 // one for each LoRA of the model; nil: 1 for each

	// Seeds has one seed for each image. Everything random about an image depends on its seed and size only.
	Seeds []uint64
	// Row is the row of the batch that the first image is sampled in, for one image alone. The rows before and behind
	// it are copies. An image is the same in every row, but on CPUs not always to the last bit.
	Row int
	// Latents replaces the noise drawn from Seeds: unit normals [images, height/8, width/8, channels].
	Latents []float32

	// Images to begin from [images, height, width, 3] in [-1, 1], or one for all.
	Images []float32
	// Masks [images, height, width], or one for all: 1 where Images are painted anew, 0 where they stay.
	Masks []float32

	// Conditions are, for each ControlNet, the conditioning images [images, height, width, channels] in [0, 1], or one
	// for all images.
	Conditions [][]float32
	// ControlNetConditioningScale is what the residuals are multiplied by: one number for each ControlNet, or none: 1.
	// 0 is no effect.
	ControlNetConditioningScale []float64
	// ControlGuidanceStart and End are the shares of the calls before and after which a ControlNet rests: one for each,
	// or none: 0 and 1.
	ControlGuidanceStart, ControlGuidanceEnd []float64
	// GuessMode shows the ControlNets to the prompt's half of guidance only, and their residuals grow with depth.
	GuessMode bool

	// Height and width, or top and left, that SDXL is told: of the picture before it was cropped, of the crop, and of
	// the result. Where the first and the last are 0, it is the size of the images.
	OriginalSize, CropsCoordsTopLeft, TargetSize [2]int
	// What SDXL is told beside the negative prompt; where nothing is set, the same as beside the prompt.
	NegativeOriginalSize, NegativeCropsCoordsTopLeft, NegativeTargetSize [2]int

	// OnStep, if not nil, is called after each call of the network. step counts from 1 to total, over all rounds.
	// latents copies the latents of the images of the current round from the devices; it is of no use after OnStep has
	// returned.
	OnStep func(step, total int, latents func() ([]float32, error))

	// OnImage is called with each image as soon as it is decoded, on another goroutine but for one image at a time. An
	// error ends the sampling.
	OnImage func(Image) error

	draws func(image int, purpose uint64, size int) []float32 // replaces what is drawn from Seeds, in tests
}

// DefaultRequest has diffusers' defaults, and neither prompts nor seeds.
func DefaultRequest() Request {
	return Request{
		Encoding: settings.Default[Encoding](), Denoising: settings.Default[Denoising](),
		Options: schedule.DefaultOptions(),
	}
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

// scales are the values of that input: 1 where the request does not say.
func (r Request) scales(loras int) []float32 {
	out := make([]float32, max(1, loras))
	for i := range out {
		out[i] = 1
		if r.LoRAScales != nil {
			out[i] = float32(r.LoRAScales[i])
		}
	}
	return out
}
