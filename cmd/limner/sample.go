package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/sample"
)

type sampleCmd struct {
	modelFlags
	ControlNet   string   `name:"controlnet-model-name-or-path" aliases:"controlnet" placeholder:"MODEL" help:"ControlNet: a folder in diffusers' layout, a single file, or org/name on the Hub. --controlnet is the same."`
	ControlImage []string `sep:"none" placeholder:"FILE" help:"Conditioning image for the ControlNet: one for all prompts, or one for each, in their order."`

	LoRA             []string  `name:"lora" sep:"none" placeholder:"MODEL" help:"LoRA to apply: a file of diffusers', PEFT's or kohya's naming, or org/name on the Hub; may be given several times."`
	LoRAScale        []float64 `name:"lora-scale" placeholder:"X" help:"How far to apply each LoRA, in their order; 1 without it."`
	TextualInversion []string  `sep:"none" placeholder:"[TOKEN=]FILE" help:"Textual inversion; the token is the file's own, or the file's name, unless it is given. May be given several times."`

	Prompt          []string `sep:"none" required:"" placeholder:"TEXT" help:"What to draw; may be given several times."`
	NegativePrompt  *string  `placeholder:"TEXT" help:"What to keep away from."`
	PromptStyle     string   `enum:"plain,a1111,comfy" default:"plain" help:"What brackets in prompts mean: plain (nothing), a1111 or comfy; see below."`
	TruncatePrompts bool     `help:"Cut prompts after 75 tokens, as diffusers does, instead of encoding them in chunks of 75."`
	ClipSkip        int      `default:"0" help:"Last layers of the text encoder to leave out."`
	NumImages       int      `default:"1" help:"Images for each prompt."`
	Height          int      `placeholder:"PX" help:"Height in pixels; without it, the size that the model was trained for."`
	Width           int      `placeholder:"PX" help:"Width in pixels; likewise."`
	Seed            uint64   `default:"0" help:"Of the first image; each further one has the next number."`

	NumInferenceSteps           int     `default:"${sample_steps}" help:"Denoising steps, of DDIM."`
	GuidanceScale               float64 `default:"${sample_guidance}" help:"How far to follow the prompt; at 1 and below, the negative prompt goes unused."`
	ControlNetConditioningScale float64 `name:"controlnet-conditioning-scale" default:"${sample_conditioning}" help:"How far to follow the conditioning image."`

	Dtype     string `enum:"f32,bf16" default:"f32" help:"Of weights and activations: f32 or bf16."`
	OutputDir string `required:"" placeholder:"DIR" help:"Folder for the images. One that holds an earlier result of this command is replaced; anything else is left alone."`
	Grid      bool   `default:"true" negatable:"" help:"Write grid.png, all images in one, too."`
	BatchSize int    `placeholder:"N" help:"Images drawn at once, over all devices; without it, at most 4 on each."`
	backendFlags
}

// sampleDefaults are the values of the flags' defaults, which package sample holds.
func sampleDefaults() map[string]string {
	r := sample.DefaultRequest()
	return map[string]string{
		"sample_steps": fmt.Sprint(r.NumInferenceSteps), "sample_guidance": fmt.Sprint(r.GuidanceScale),
		"sample_conditioning": fmt.Sprint(r.ControlNetConditioningScale),
	}
}

// Help shows one working example.
func (sampleCmd) Help() string {
	return `Example:

  limner sample --model sd15 --prompt "a red circle" --prompt "two cats" --num_images 2 --output_dir out

The same seed gives the same image, whatever is drawn beside it. A control image of another size is resized.

Prompt styles: plain takes a prompt as it stands. With a1111, (x) counts 1.1 times as much, [x] 1/1.1 times, (x:1.3) 1.3 times; nested
brackets multiply; \( \) \[ \] are signs; BREAK goes on in a new chunk of 75 tokens; the mean of the embeddings is restored. With comfy,
(x) and (x:1.3) likewise, but an explicit weight replaces the outer one, square brackets and BREAK are text, and a weight moves the
embedding from that of the empty prompt.`
}

// imagesPerDevice is the largest batch that is chosen where no flag says how large.
const imagesPerDevice = 4

func (c sampleCmd) Run(ctx context.Context) (err error) {
	if err := c.check(); err != nil {
		return usageError{err}
	}
	out, err := openOutput(c.OutputDir)
	if err != nil {
		return err
	}
	model, err := c.load(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.weights.Close()) }()
	request, err := c.request(&model.Model)
	if err != nil {
		return err
	}
	b, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	shape := sample.Shape{Batch: c.batch(b.Devices()), Height: c.Height, Width: c.Width, Guidance: c.GuidanceScale > 1}
	if err := model.Check(shape, b.Devices()); err != nil {
		return usageError{err}
	}
	pipeline, err := sample.New(ctx, b, model.Model, shape)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pipeline.Close()) }()

	bar := newProgress(os.Stderr, "sampling")
	request.OnStep = func(step, total int, _ func() ([]float32, error)) { bar.Step(step, total, "") }
	start := time.Now()
	result, err := pipeline.Sample(ctx, request)
	if err := errors.Join(err, bar.Close()); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "drawn in %.1f s\n", time.Since(start).Seconds())
	return c.write(out, result.Images, request)
}

// check reports every flag that does not fit another.
func (c *sampleCmd) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, n := range map[string]int{"--num_images": c.NumImages, "--num_inference_steps": c.NumInferenceSteps} {
		if n < 1 {
			bad("%s %d: want at least 1", name, n)
		}
	}
	if c.ClipSkip < 0 {
		bad("--clip_skip %d: want at least 0", c.ClipSkip)
	}
	for name, n := range map[string]int{"--height": c.Height, "--width": c.Width, "--batch_size": c.BatchSize, "--num_devices": c.NumDevices} {
		if n < 0 {
			bad("%s %d: want at least 1", name, n)
		}
	}
	for name, x := range map[string]float64{"--guidance_scale": c.GuidanceScale, "--controlnet_conditioning_scale": c.ControlNetConditioningScale} {
		if !(x >= 0) || math.IsInf(x, 0) {
			bad("%s %g: want a number of at least 0", name, x)
		}
	}
	if n := len(c.LoRAScale); n > 0 && n != len(c.LoRA) {
		bad("%d times --lora_scale for %d times --lora: give one for each", n, len(c.LoRA))
	}
	switch n := len(c.ControlImage); {
	case c.ControlNet == "" && n > 0:
		bad("--control_image needs --controlnet_model_name_or_path")
	case c.ControlNet != "" && n == 0:
		bad("--controlnet_model_name_or_path needs --control_image")
	case n > 1 && n != len(c.Prompt):
		bad("%d control images for %d prompts: give one for all, or one for each", n, len(c.Prompt))
	}
	return errors.Join(errs...)
}

// loadedModel is a model whose weights are still in their files.
type loadedModel struct {
	sample.Model
	weights *diffusers.Weights
}

// load opens the model's files and fills in the size of the images where no flag set it.
func (c *sampleCmd) load(ctx context.Context) (loadedModel, error) {
	var m loadedModel
	pipeline, err := c.openModel(ctx)
	if err != nil {
		return m, err
	}
	if _, err := (sample.DDIM{Noise: pipeline.Noise}).Steps(c.NumInferenceSteps); err != nil {
		return m, usageError{err}
	}
	m.Model = sample.Model{Pipeline: pipeline, Log: os.Stderr}
	if c.Dtype == "bf16" {
		m.Compute = dtypes.BFloat16
	}
	native := pipeline.UNet.SampleSize * pipeline.VAE.Scale()
	if c.Height == 0 {
		c.Height = native
	}
	if c.Width == 0 {
		c.Width = native
	}
	if err := c.loadAdditions(ctx, &m); err != nil {
		return m, err
	}
	if m.weights, err = pipeline.Weights(pipeline.Components()...); err != nil {
		return m, configError{err}
	}
	m.Weights = m.weights
	if c.ControlNet != "" {
		if err := c.loadControlNet(ctx, &m); err != nil {
			return m, errors.Join(err, m.weights.Close())
		}
	}
	return m, nil
}

// loadAdditions reads LoRAs and textual inversions.
func (c *sampleCmd) loadAdditions(ctx context.Context, m *loadedModel) error {
	for _, name := range c.LoRA {
		path, err := locate(ctx, name, "")
		if err != nil {
			return err
		}
		lora, err := m.Pipeline.OpenLoRA(path)
		if err != nil {
			return configError{err}
		}
		m.LoRAs = append(m.LoRAs, lora)
	}
	for _, name := range c.TextualInversion {
		token, path, ok := strings.Cut(name, "=")
		if !ok {
			token, path = "", name
		}
		if err := m.Pipeline.AddEmbedding(path, token); err != nil {
			return configError{err}
		}
	}
	return nil
}

func (c *sampleCmd) loadControlNet(ctx context.Context, m *loadedModel) error {
	path, err := locate(ctx, c.ControlNet, c.Variant)
	if err != nil {
		return err
	}
	config, err := diffusers.ReadControlNet(path)
	if err != nil {
		return configError{err}
	}
	if n := config.ConditioningChannels; n != 3 {
		return configError{fmt.Errorf("load %s: conditioning_channels is %d, images have 3", path, n)}
	}
	m.ControlNet = &config
	if err := m.weights.Open(diffusers.ControlNet, path, config.Tree()); err != nil {
		return configError{err}
	}
	return nil
}

// request lists the images: those of the first prompt, then those of the second, and so on.
func (c *sampleCmd) request(m *sample.Model) (sample.Request, error) {
	r := sample.Request{
		PromptStyle: clip.Style(c.PromptStyle), TruncatePrompts: c.TruncatePrompts, ClipSkip: c.ClipSkip, NumInferenceSteps: c.NumInferenceSteps, GuidanceScale: c.GuidanceScale,
		ControlNetConditioningScale: c.ControlNetConditioningScale, LoRAScales: c.LoRAScale,
	}
	if c.NegativePrompt != nil {
		r.NegativePrompts = []string{*c.NegativePrompt}
	}
	controls, err := c.controls()
	if err != nil {
		return r, err
	}
	for i, prompt := range c.Prompt {
		for range c.NumImages {
			r.Prompts = append(r.Prompts, prompt)
			r.Seeds = append(r.Seeds, c.Seed+uint64(len(r.Seeds)))
			if m.ControlNet != nil {
				r.Conditions = data.AppendCondition(r.Conditions, controls[i])
			}
		}
	}
	return r, nil
}

// controls reads the control image of each prompt, resized as diffusers does.
func (c *sampleCmd) controls() ([]*data.RGB, error) {
	var images []*data.RGB
	for _, path := range c.ControlImage {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("load control image: %w", err)
		}
		m, err := data.Decode(raw)
		if err != nil {
			return nil, fmt.Errorf("load control image %s: %w", path, err)
		}
		if m, err = data.Resize(m, c.Width, c.Height, data.Lanczos); err != nil {
			return nil, fmt.Errorf("load control image %s: %w", path, err)
		}
		images = append(images, m)
	}
	for len(images) > 0 && len(images) < len(c.Prompt) {
		images = append(images, images[0])
	}
	return images, nil
}

// batch is the number of images to draw at once.
func (c *sampleCmd) batch(devices int) int {
	if c.BatchSize > 0 {
		return c.BatchSize
	}
	n := min(len(c.Prompt)*c.NumImages, imagesPerDevice*devices)
	return (n + devices - 1) / devices * devices
}

// write puts the images and the record of how they were made into the output folder.
func (c *sampleCmd) write(out *output, images []*data.RGB, r sample.Request) error {
	record := sampleRecord{
		Model: c.Model, ControlNet: c.ControlNet, NegativePrompt: c.NegativePrompt, PromptStyle: c.PromptStyle, ClipSkip: c.ClipSkip, LoRAs: c.LoRA, LoRAScales: c.LoRAScale, TextualInversions: c.TextualInversion, Height: c.Height, Width: c.Width,
		NumInferenceSteps: c.NumInferenceSteps, GuidanceScale: c.GuidanceScale, ControlNetConditioningScale: c.ControlNetConditioningScale,
	}
	for i := range images {
		entry := imageRecord{File: fmt.Sprintf("image-%05d.png", i), Prompt: r.Prompts[i], Seed: r.Seeds[i]}
		switch n := len(c.ControlImage); {
		case n == 1:
			entry.ControlImage = c.ControlImage[0]
		case n > 1:
			entry.ControlImage = c.ControlImage[i/c.NumImages]
		}
		record.Images = append(record.Images, entry)
	}
	var grid *data.RGB
	if c.Grid {
		var err error
		if grid, err = c.grid(images); err != nil {
			return err
		}
	}
	if err := out.write(record, images, grid); err != nil {
		return err
	}
	for _, image := range record.Images {
		fmt.Printf("%s  seed %d  %s\n", filepath.Join(c.OutputDir, image.File), image.Seed, image.Prompt)
	}
	if grid != nil {
		fmt.Println(filepath.Join(c.OutputDir, gridFile))
	}
	return nil
}

// grid has a row for each prompt, beginning with its control image; single images without one fill a square.
func (c *sampleCmd) grid(images []*data.RGB) (*data.RGB, error) {
	const gap = 8
	controls, err := c.controls()
	if err != nil {
		return nil, err
	}
	if c.NumImages == 1 && controls == nil {
		side := int(math.Ceil(math.Sqrt(float64(len(images)))))
		var rows [][]*data.RGB
		for len(images) > 0 {
			n := min(side, len(images))
			rows, images = append(rows, images[:n]), images[n:]
		}
		return sample.Grid(rows, gap), nil
	}
	rows := make([][]*data.RGB, len(c.Prompt))
	for i := range rows {
		if controls != nil {
			rows[i] = append(rows[i], controls[i])
		}
		rows[i] = append(rows[i], images[i*c.NumImages:(i+1)*c.NumImages]...)
	}
	return sample.Grid(rows, gap), nil
}
