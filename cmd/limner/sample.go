package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/alecthomas/kong"
	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/train"
)

type sampleCmd struct {
	drawing
	Like       likeFile `placeholder:"IMAGE" help:"Repeat an image of limner sample: prompts, numbers and choices are its own unless flags say otherwise, model and files are given as flags and compared. On the same kind of device it is the same to the bit."`
	PromptFile string   `aliases:"from-file" placeholder:"FILE" help:"Prompts, one a line, with kohya's switches behind them; see below."`
	LoRADir    string   `name:"lora-dir" placeholder:"DIR" help:"Folder of LoRAs, of which those are loaded that a prompt names by <lora:NAME:WEIGHT>; see below."`
	writtenFlags

	OutputDir string `required:"" placeholder:"DIR" help:"Folder for the images. One that holds an earlier result of this command is replaced, one whose command was stopped is kept for --resume; anything else is left alone."`
	Resume    bool   `help:"Go on where this command was stopped: images that are in the folder are not drawn again. Where there is none, begin."`
	executableFlags
	runFlags
}

// writtenFlags say which images are drawn, and what is written of them and beside them.
type writtenFlags struct {
	XY           axisList `json:"xy,omitempty" name:"xy" placeholder:"NAME=A,B,…" help:"Draw the prompt once for each value, or each pair of values if two settings are given, on one labelled sheet."`
	NumImages    int      `json:"num_images" default:"1" help:"Images for each prompt."`
	SaveLatents  bool     `json:"save_latents,omitempty" help:"Write latents.safetensors too: the latents after the last step, as the UNet sees them."`
	OutputFormat string   `json:"output_format" enum:"png,jpeg,webp" default:"png" help:"Of the images: png, jpeg or webp (without loss)."`
	Grid         bool     `json:"grid" default:"true" negatable:"" help:"Write grid.png, all images in one, too."`
	PreviewSteps int      `json:"preview_steps,omitempty" default:"0" placeholder:"N" help:"Write previews/ every N steps: what the latents look like, without the VAE."`
}

// Help shows one working example.
func (sampleCmd) Help() string {
	return `Example:

  limner sample --model sd15 --prompt "a red circle" --prompt "two cats" --num_images 2 --output_dir out

The same seed gives the same image, on some CPUs but for rounding, whatever is drawn beside it. A control image, an image or
a mask of another size is resized. Images carry how they were drawn and the names and SHA-256 of what they were made of: limner show prints it, and limner sample --like
repeats it, with the model and the files being given again, which it compares.

Prompt styles: plain takes a prompt as it stands. With a1111, (x) counts 1.1 times as much, [x] 1/1.1 times, (x:1.3) 1.3 times; nested
brackets multiply; \( \) \[ \] are signs; BREAK goes on in a new chunk of 75 tokens; the mean of the embeddings is restored. With comfy,
(x) and (x:1.3) likewise, but an explicit weight replaces the outer one, square brackets and BREAK are text, and a weight moves the
embedding from that of the empty prompt.

With a1111, <lora:NAME:0.8> in a prompt applies a LoRA at that weight to its image: one that is given by --lora, whose own scale it replaces, or a .safetensors
file below --lora_dir, by the file's name without its extension. The other styles refuse it.

A line of a prompt file may end in --n NEGATIVE, --w WIDTH, --h HEIGHT, --d SEED, --s STEPS, --l GUIDANCE, --ss SCHEDULER, --cn CONTROL
IMAGE (one for each ControlNet), or any setting that --xy takes, such as --strength 0.5.

--xy takes prompt, negative_prompt, steps, scheduler, guidance, seed, strength, clip_skip, conditioning, lora_scale and other flags'
names, as in --xy steps=10,20,30 scheduler=ddim,unipc. A value with commas of its own: separate the values by | instead.`
}

// imagesPerDevice is the largest batch that is chosen where no flag says how large.
const imagesPerDevice = 4

func (c sampleCmd) Run(ctx context.Context, command *kong.Context) (err error) {
	if p := planOf(command); p != nil {
		return p.sample(ctx, &c)
	}
	work, err := c.plan()
	if err != nil {
		return usageError{err}
	}
	out, err := openOutput(c.OutputDir, c.Resume)
	if err != nil {
		return err
	}
	a := &artist{cmd: &c, out: out, work: work}
	if err = a.run(ctx); err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return a.interrupted()
	}
	return err
}

// run does what can be refused first.
func (a *artist) run(ctx context.Context) (err error) {
	c := a.cmd
	if err := a.checkSpace(); err != nil {
		return err
	}
	if a.pictures, err = lookAt(a.work, c.Background); err != nil {
		return err
	}
	model, err := c.load(ctx, a.work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.weights.Close()) }()
	a.model, a.files = model.Model, model.files
	a.pictures.fillSizes(a.work, a.model)
	given, err := c.openLatents(a.work, a.model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, given.Close()) }()
	a.given = given
	if err := c.compare(model, a.work); err != nil {
		return err
	}
	if a.backend, err = c.open(ctx, c.Executable...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.backend.Close()) }()
	c.compareDevices(a.backend.Devices())
	if err := a.prepare(); err != nil {
		return err
	}
	err = a.draw(ctx)
	return errors.Join(err, a.latents.Close())
}

// interrupted is what a signal ended with.
func (a *artist) interrupted() error {
	if !a.out.began && a.out.goOn == nil {
		return fmt.Errorf("%w before the first image: nothing was lost, the same command starts again", train.ErrInterrupted)
	}
	return fmt.Errorf("%w, %d of %d images are in %s: the same command with --resume goes on", train.ErrInterrupted, a.count(), len(a.work), a.cmd.OutputDir)
}

// job is one image to draw.
type job struct {
	drawing
	index int
	files []usedFile // that it is drawn from, but the model's

	done    bool // it is in the folder
	problem error
}

// plan lists the images: those of the first prompt, then those of the second, and so on.
func (c *sampleCmd) plan() ([]*job, error) {
	var errs []error
	if n := c.NumImages; n < 1 || n > mostImages {
		errs = append(errs, fmt.Errorf("--num_images %d: want 1 to %d", n, mostImages))
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"--num_devices", c.NumDevices}, {"--preview_steps", c.PreviewSteps}} {
		if n.value < 0 { // 0 was not given
			errs = append(errs, fmt.Errorf("%s %d: want at least 1", n.name, n.value))
		}
	}
	if len(c.Prompt) == 0 == (c.PromptFile == "") {
		errs = append(errs, errors.New("give --prompt or --prompt_file"))
	}
	lines, err := c.lines()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	if n := len(lines) * c.NumImages; n > mostImages {
		return nil, fmt.Errorf("%d images (--num_images %d for each of %d): want at most %d", n, c.NumImages, len(lines), mostImages)
	}
	if err := c.applyLoRATags(lines); err != nil {
		return nil, err
	}
	var work []*job
	for _, d := range lines {
		for i := range c.NumImages {
			j := &job{drawing: d, index: len(work)}
			j.Seed += uint64(i)
			work = append(work, j)
		}
	}
	for _, j := range work {
		errs = append(errs, j.check())
	}
	return work, joinDistinct(errs)
}

// lines are the drawings of single prompts: of the flags or of the prompt file, or those of --xy.
func (c *sampleCmd) lines() ([]drawing, error) {
	if c.XY != nil {
		sheet, err := c.sheet()
		if err != nil {
			return nil, err
		}
		return sheet.cells, nil
	}
	if c.PromptFile != "" {
		return promptFile(c.PromptFile, c.drawing, c.NumImages)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	var lines []drawing
	for i := range c.Prompt {
		d := c.of(i)
		d.Seed += uint64(i * c.NumImages)
		lines = append(lines, d)
	}
	return lines, nil
}

// joinDistinct joins errors and says each once.
func joinDistinct(errs []error) error {
	said := map[string]bool{}
	var out []error
	for _, err := range errs {
		if err != nil && !said[err.Error()] {
			said[err.Error()] = true
			out = append(out, err)
		}
	}
	return errors.Join(out...)
}

// batch is the number of images to draw at once, of n.
func (c *sampleCmd) batch(n, devices int) int {
	if c.BatchSize > 0 {
		return c.BatchSize
	}
	n = min(n, imagesPerDevice*devices)
	return (n + devices - 1) / devices * devices
}

// imageName is the file of image i.
func (c *sampleCmd) imageName(i int) string { return fmt.Sprintf("image-%05d.%s", i, c.OutputFormat) }

func (c *sampleCmd) compute() dtypes.DType {
	if c.Dtype == "bf16" {
		return dtypes.BFloat16
	}
	return dtypes.Float32
}

// path is a file of the output folder.
func (c *sampleCmd) path(name string) string { return filepath.Join(c.OutputDir, name) }
