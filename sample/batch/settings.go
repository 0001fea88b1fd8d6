package batch

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/controlnet/condition"
	"limner/data/imaging"
	"limner/models/diffusers"
	"limner/sample"
	"limner/sample/schedule"
)

// Settings are all that makes an image what it is: flags of limner sample, and what it writes into every image under
// the same names. Of a single image it has one prompt, and one control image for each ControlNet.
type Settings struct {
	diffusers.ModelOptions
	ControlNets      []string  `json:"controlnet_model_name_or_path,omitempty" group:"control" name:"controlnet-model-name-or-path" aliases:"controlnet" sep:"none" placeholder:"MODEL" help:"ControlNet: a folder in diffusers' layout, a single file, or org/name on the Hub; may be given several times. --controlnet is the same."`
	LoRA             []string  `json:"lora,omitempty" group:"model" name:"lora" sep:"none" placeholder:"MODEL" help:"LoRA to apply: a file, or the folder with it, of diffusers', PEFT's or kohya's naming, or org/name on the Hub; may be given several times."`
	LoRAScale        []float64 `json:"lora_scale,omitempty" group:"model" name:"lora-scale" placeholder:"X" help:"How far to apply each LoRA, in their order; 1 without it."`
	TextualInversion []string  `json:"textual_inversion,omitempty" group:"model" sep:"none" placeholder:"[TOKEN=]FILE" help:"Textual inversion; the token is the file's own, or the file's name, unless it is given. May be given several times."`
	Dtype            string    `json:"dtype" group:"memory" enum:"f32,bf16" default:"f32" help:"Of weights and activations: f32 or bf16."`

	Prompt         []string `json:"prompt" group:"prompt" sep:"none" placeholder:"TEXT" help:"What to sample; may be given several times."`
	NegativePrompt *string  `json:"negative_prompt,omitempty" group:"prompt" placeholder:"TEXT" help:"What to keep away from."`
	sample.Encoding
	Height int    `json:"height" group:"images" placeholder:"PX" help:"Height in pixels; without it, that of --image, or what the model was trained for."`
	Width  int    `json:"width" group:"images" placeholder:"PX" help:"Width in pixels; likewise."`
	Seed   uint64 `json:"seed" group:"images" type:"seed" default:"0" help:"Of the first image; each further one has the next number. -1 draws one, which is printed and recorded."`

	sample.Denoising
	Eta float64 `json:"eta,omitempty" group:"denoising" default:"0" help:"Noise that DDIM adds: 0 none, 1 as much as DDPM."`

	Image    []string `json:"image,omitempty" group:"image" sep:"none" placeholder:"FILE" help:"Image to begin from: one for all prompts, or one for each."`
	Mask     []string `json:"mask,omitempty" group:"image" aliases:"mask-image" sep:"none" placeholder:"FILE" help:"Where --image is painted anew: white. One for all prompts, or one for each."`
	Strength *float64 `json:"strength,omitempty" group:"image" placeholder:"X" help:"Share of the steps that is made on --image: 0.8 without it, with --mask 1."`

	Background string `json:"background,omitempty" group:"image" placeholder:"COLOUR" help:"Colour behind images that are not opaque, of --image, --mask and --control_image: a CSS name or #RRGGBB. Without it alpha is dropped, as by Pillow."`

	ControlImage                []string  `json:"control_image,omitempty" group:"control" sep:"none" placeholder:"FILE" help:"Conditioning image, or what --preprocess makes one of: one for each ControlNet, for all prompts or anew for each prompt in turn."`
	Preprocess                  string    `json:"preprocess,omitempty" group:"control" default:"none" placeholder:"NAME" help:"Condition to take from --control_image, at the size of the image: none, which it is already, or a name, or one with parameters as in 'canny(low=50, high=100)', of ${conditions}. Random ones follow --seed."`
	ControlNetConditioningScale []float64 `json:"controlnet_conditioning_scale,omitempty" group:"control" name:"controlnet-conditioning-scale" placeholder:"X" help:"How far to follow the conditioning images: one number for all ControlNets, or one for each; 1 without it."`
	ControlGuidanceStart        []float64 `json:"control_guidance_start,omitempty" group:"control" placeholder:"X" help:"Share of the steps before which a ControlNet rests: one for all, or one for each; 0 without it."`
	ControlGuidanceEnd          []float64 `json:"control_guidance_end,omitempty" group:"control" placeholder:"X" help:"Share of the steps after which a ControlNet rests: likewise; 1 without it."`
	GuessMode                   bool      `json:"guess_mode,omitempty" group:"control" help:"Show the ControlNets to the prompt's half of guidance only, as diffusers' guess_mode does."`

	OriginalSize       []int `json:"original_size,omitempty" group:"sdxl" placeholder:"PX,PX" help:"Height and width of the picture before it was cropped, as SDXL is to take them."`
	CropsCoordsTopLeft []int `json:"crops_coords_top_left,omitempty" group:"sdxl" placeholder:"PX,PX" help:"Top and left of the crop, likewise."`
	TargetSize         []int `json:"target_size,omitempty" group:"sdxl" placeholder:"PX,PX" help:"Height and width of the result, likewise."`

	VAESlicing bool   `json:"enable_vae_slicing,omitempty" group:"memory" name:"enable-vae-slicing" help:"Decode tiles of one image at a time on each device, which takes less memory. Whole images always are."`
	VAETiling  bool   `json:"enable_vae_tiling,omitempty" group:"memory" name:"enable-vae-tiling" help:"Decode images larger than what the VAE was trained for in tiles, likewise. Where they overlap, the image is not quite the same."`
	Latents    string `json:"latents,omitempty" group:"images" placeholder:"FILE" help:"Safetensors file whose tensor latents [images, channels, height/8, width/8], unit normals, is what the images begin from in place of --seed."`
	BatchRow   int    `json:"batch_row,omitempty" group:"images" hidden:"" help:"Row of the batch that a single image is sampled in: --like sets it, since not all rows are alike to the last bit on CPUs."`
	BatchSize  int    `json:"batch_size" group:"memory" placeholder:"N" help:"Images sampled at once, over all devices; without it, at most 4 on each."`
}

// strength is the share of the steps that is made.
func (d *Settings) strength() float64 {
	switch {
	case d.Strength != nil:
		return *d.Strength
	case d.Image != nil && d.Mask == nil:
		return 0.8
	}
	return 1
}

// preprocess is the condition to take from control images; none where they are conditioning images.
func (d *Settings) preprocess() (condition.Spec, error) {
	if d.Preprocess == "" || d.Preprocess == condition.None {
		return condition.Spec{}, nil
	}
	return condition.Parse(d.Preprocess)
}

// taken is the condition that is taken from the image's control images; ok is false where they are conditioning images.
func (d *Settings) taken() (c condition.Condition, ok bool, err error) {
	s, err := d.preprocess()
	if err != nil || s.None() {
		return c, false, err
	}
	return s.Draw(d.Seed, 0, 0), true, nil
}

// drawPreprocess draws the random parameters of the condition by the image's seed, so that the record has them.
func (d *Settings) drawPreprocess() error {
	c, ok, err := d.taken()
	if ok {
		d.Preprocess = c.String()
	}
	return err
}

// scheduleOptions are the options of the scheduler.
func (d *Settings) scheduleOptions() schedule.Options {
	o := schedule.DefaultOptions()
	o.Strength, o.Eta = d.strength(), d.Eta
	return o
}

// What an image may ask for at most. Each limit is far above what any model is of use for, and below what takes the
// machine's memory.
const (
	mostSteps = 10_000
	mostScale = 1000.0 // of guidance, ControlNets and LoRAs
	MostBatch = 4096   // images at once, over all devices; also of class images
	// in pixels: 8 times SDXL's, where attention at the latents alone is split into 16384 parts
	mostSide       = 8192
	mostPixels     = 1 << 30   // of all images sampled at once
	mostCoordinate = 1_000_000 // in pixels, that SDXL is conditioned on
	mostPrompt     = 20_000    // bytes
	mostImages     = 100_000   // of one command
)

// check reports every value that is out of range or does not fit another.
func (d *Settings) check() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if n := len(d.LoRAScale); n > 0 && n != len(d.LoRA) {
		refuse("%d times --lora_scale for %d times --lora: give one for each", n, len(d.LoRA))
	}
	for _, f := range []struct {
		name    string
		numbers []float64
	}{
		{"--controlnet_conditioning_scale", d.ControlNetConditioningScale},
		{"--control_guidance_start", d.ControlGuidanceStart}, {"--control_guidance_end", d.ControlGuidanceEnd},
	} {
		if n := len(f.numbers); n > 1 && n != len(d.ControlNets) {
			refuse("%d times %s for %d ControlNets: give one for all, or one for each", n, f.name, len(d.ControlNets))
		}
	}
	return errors.Join(append(errs, d.CheckRanges(), d.checkPictures())...)
}

// CheckRanges reports every value that is out of range by itself, before anything is loaded or takes memory.
func (d *Settings) CheckRanges() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := imaging.NewDecoding(d.Background); err != nil {
		refuse("--%v", err)
	}
	if _, err := d.preprocess(); err != nil {
		refuse("--preprocess: %v", err)
	}
	for _, n := range []struct {
		name               string
		value, least, most int
	}{
		{"--num_inference_steps", d.NumInferenceSteps, 1, mostSteps}, {"--clip_skip", d.ClipSkip, 0, 100},
		{"--batch_row", d.BatchRow, 0, MostBatch - 1},
	} {
		if n.value < n.least || n.value > n.most {
			refuse("%s %d: want %d to %d", n.name, n.value, n.least, n.most)
		}
	}
	if err := d.checkSize(); err != nil {
		errs = append(errs, err)
	}
	type scale struct {
		name        string
		values      []float64
		least, most float64
	}
	scales := []scale{
		{"--guidance_scale", []float64{d.GuidanceScale}, 0, mostScale},
		{"--guidance_rescale", []float64{d.GuidanceRescale}, 0, 1}, {"--eta", []float64{d.Eta}, 0, 1},
		{"--lora_scale", d.LoRAScale, -mostScale, mostScale},
		{"--controlnet_conditioning_scale", d.ControlNetConditioningScale, 0, mostScale},
		{"--control_guidance_start", d.ControlGuidanceStart, 0, 1},
		{"--control_guidance_end", d.ControlGuidanceEnd, 0, 1},
	}
	if d.Strength != nil {
		scales = append(scales, scale{"--strength", []float64{*d.Strength}, 0, 1})
	}
	for _, s := range scales {
		for _, x := range s.values {
			if !(x >= s.least && x <= s.most) {
				refuse("%s %g: want %g to %g", s.name, x, s.least, s.most)
			}
		}
	}
	return errors.Join(append(errs, d.checkTexts(), d.checkConditionedSizes())...)
}

// checkSize reports sizes and batches that are out of range; 0 was not given.
func (d *Settings) checkSize() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, n := range []struct {
		name  string
		value int
		most  int
	}{{"--height", d.Height, mostSide}, {"--width", d.Width, mostSide}, {"--batch_size", d.BatchSize, MostBatch}} {
		if n.value < 0 || n.value > n.most {
			refuse("%s %d: want 1 to %d", n.name, n.value, n.most)
		}
	}
	pixels := max(1, d.Height) * max(1, d.Width)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if n := max(1, d.BatchSize); n*pixels > mostPixels {
		return fmt.Errorf("--batch_size %d of %d×%d pixels: more than the limit of %d pixels at once, "+
			"which is a batch of %d",
			n, d.Width, d.Height, mostPixels, mostPixels/pixels)
	}
	return nil
}

// checkTexts reports prompts that are longer than any text encoder makes sense of.
func (d *Settings) checkTexts() error {
	var errs []error
	texts := d.Prompt
	if d.NegativePrompt != nil {
		texts = append(slices.Clone(texts), *d.NegativePrompt)
	}
	for _, text := range texts {
		if n := len(text); n > mostPrompt {
			errs = append(errs, fmt.Errorf("a prompt of %d bytes: more than the limit of %d", n, mostPrompt))
		}
	}
	return errors.Join(errs...)
}

// checkConditionedSizes reports sizes and coordinates that SDXL cannot be conditioned on.
func (d *Settings) checkConditionedSizes() error {
	var errs []error
	for _, f := range []struct {
		name string
		pair []int
	}{
		{"--original_size", d.OriginalSize}, {"--crops_coords_top_left", d.CropsCoordsTopLeft},
		{"--target_size", d.TargetSize},
	} {
		if n := len(f.pair); n != 0 && n != 2 {
			errs = append(errs, fmt.Errorf("%s: %d numbers, want 2", f.name, n))
		}
		for _, x := range f.pair {
			if x < -mostCoordinate || x > mostCoordinate {
				errs = append(errs, fmt.Errorf("%s %d: want %d to %d", f.name, x, -mostCoordinate, mostCoordinate))
			}
		}
	}
	return errors.Join(errs...)
}

// checkPictures reports what does not fit of control images, images and masks.
func (d *Settings) checkPictures() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	nets, prompts := len(d.ControlNets), len(d.Prompt)
	switch n := len(d.ControlImage); {
	case nets == 0 && n > 0:
		refuse("--control_image needs --controlnet_model_name_or_path")
	case nets > 0 && n == 0:
		refuse("--controlnet_model_name_or_path needs --control_image")
	case n != nets && n != nets*prompts:
		refuse("%d control images for %d ControlNets and %d prompts: give one for each ControlNet, "+
			"for all prompts or for each", n, nets, prompts)
	}
	for name, files := range map[string][]string{"images": d.Image, "masks": d.Mask} {
		if n := len(files); n > 1 && n != prompts {
			refuse("%d %s for %d prompts: give one for all, or one for each", n, name, prompts)
		}
	}
	if d.Mask != nil && d.Image == nil {
		refuse("--mask needs --image")
	}
	if d.Strength != nil && d.Image == nil {
		refuse("--strength needs --image")
	}
	return errors.Join(errs...)
}

// advanceSeed moves the seed to that of the image n places further on, and fails where there is none.
func (d *Settings) advanceSeed(n int) error {
	if most := uint64(math.MaxUint64); uint64(n) > most-d.Seed {
		return fmt.Errorf("--seed %d: its images would have seeds above %d: give a smaller one", d.Seed, most)
	}
	d.Seed += uint64(n)
	return nil
}

// of are the settings of prompt i alone.
func (d *Settings) of(i int) Settings {
	one := *d
	one.Prompt = d.Prompt[i : i+1]
	if n := len(d.ControlNets); n < len(d.ControlImage) {
		one.ControlImage = d.ControlImage[i*n : (i+1)*n]
	}
	if len(d.Image) > 1 {
		one.Image = d.Image[i : i+1]
	}
	if len(d.Mask) > 1 {
		one.Mask = d.Mask[i : i+1]
	}
	return one
}

// Request has all settings but its prompt, seed and pictures.
func (d *Settings) Request() sample.Request {
	r := sample.Request{
		Encoding: d.Encoding, Denoising: d.Denoising, Options: d.scheduleOptions(), LoRAScales: d.LoRAScale,
		GuessMode: d.GuessMode,
	}
	each := func(numbers []float64) []float64 {
		if len(numbers) == 1 {
			return slices.Repeat(numbers, len(d.ControlNets))
		}
		return numbers
	}
	if d.ControlNets != nil {
		r.ControlNetConditioningScale = each(d.ControlNetConditioningScale)
		r.ControlGuidanceStart, r.ControlGuidanceEnd = each(d.ControlGuidanceStart), each(d.ControlGuidanceEnd)
	}
	pair := func(numbers []int) (out [2]int) {
		copy(out[:], numbers)
		return out
	}
	r.OriginalSize, r.CropsCoordsTopLeft, r.TargetSize = pair(d.OriginalSize),
		pair(d.CropsCoordsTopLeft), pair(d.TargetSize)
	return r
}

// Compute is the dtype of weights and activations.
func (s *Settings) Compute() dtypes.DType {
	if s.Dtype == "bf16" {
		return dtypes.BFloat16
	}
	return dtypes.Float32
}
