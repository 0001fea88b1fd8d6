// Package batch samples lists of images: of prompts, prompt files or sheets of settings, into a folder with records that say
// how each image was sampled, and which a later call goes on with.
package batch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data/imaging"
	"limner/models/diffusers"
	"limner/xla"
)

// Options say which images are sampled and where they go: flags of limner sample.
type Options struct {
	Settings
	Like       string `placeholder:"IMAGE" help:"Repeat an image of limner sample: prompts, numbers and choices are its own unless flags say otherwise, model and files are given as flags and compared. On the same kind of device it is the same to the bit."`
	PromptFile string `aliases:"from-file" placeholder:"FILE" help:"Prompts, one a line, with kohya's switches behind them; see below."`
	LoRADir    string `name:"lora-dir" placeholder:"DIR" help:"Folder of LoRAs, of which those are loaded that a prompt names by <lora:NAME:WEIGHT>; see below."`
	Outputs

	OutputDir string `required:"" placeholder:"DIR" help:"Folder for the images. One that holds an earlier result of this command is replaced, one whose command was stopped is kept for --resume; anything else is left alone."`
	Resume    bool   `help:"Go on where this command was stopped: images that are in the folder are not drawn again. Where there is none, begin."`
}

// Outputs say which images are drawn, and what is written of them and beside them.
type Outputs struct {
	XY           Axes   `json:"xy,omitempty" name:"xy" type:"axes" placeholder:"NAME=A,B,…" help:"Draw the prompt once for each value, or each pair of values if two settings are given, on one labelled sheet."`
	NumImages    int    `json:"num_images" default:"1" help:"Images for each prompt."`
	SaveLatents  bool   `json:"save_latents,omitempty" help:"Write latents.safetensors too: the latents after the last step, as the UNet sees them."`
	OutputFormat string `json:"output_format" enum:"png,jpeg,webp" default:"png" help:"Of the images: png, jpeg or webp (without loss)."`
	Grid         bool   `json:"grid" default:"true" negatable:"" help:"Write grid.png, all images in one, too."`
	PreviewSteps int    `json:"preview_steps,omitempty" default:"0" placeholder:"N" help:"Write previews/ every N steps: what the latents look like, without the VAE."`
}

// Host is what a List needs of the program that samples it.
type Host struct {
	Version string // of the program, for records
	Backend string // the devices' name, for records
	// Open opens the devices. It is called when all that can be refused without them was.
	Open func(ctx context.Context) (*xla.Backend, error)
	// OpenModel reads all of a model but its weights; Locate finds the files of another, by its path or its name on the Hub.
	OpenModel func(ctx context.Context, o diffusers.ModelOptions) (*diffusers.Pipeline, error)
	Locate    func(ctx context.Context, name, variant string) (path string, err error)

	Log     io.Writer // what there is to say, a line each
	Watcher Watcher
}

// Watcher is told how far a List is. Images are written while the next are sampled, so its methods may be called at once.
type Watcher interface {
	Step(done, total int)                                // after each call of the network
	Preview(m *imaging.RGB) error                        // what the images of a round look like
	Image(path string, seed uint64, prompt string) error // an image was written
	File(path string) error                              // so was a file that goes with the images
}

// ErrInterrupted says that a List was stopped early with everything saved.
var ErrInterrupted = errors.New("stopped early")

// UsageError is a setting that is wrong in itself or for the model, the devices or the folder.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

func (e UsageError) Unwrap() error { return e.Err }

// ConfigError is a model that cannot be used as asked.
type ConfigError struct{ Err error }

func (e ConfigError) Error() string { return e.Err.Error() }

func (e ConfigError) Unwrap() error { return e.Err }

// New lists the images that the options ask for and looks at the output folder, and leaves what is there as it is.
func New(o Options, h Host) (*List, error) {
	jobs, err := o.list()
	if err != nil {
		return nil, UsageError{err}
	}
	out, err := openOutput(o.OutputDir, o.Resume)
	if err != nil {
		return nil, err
	}
	return &List{options: &o, host: h, out: out, jobs: jobs}, nil
}

// Run samples the images that are missing in the folder. What is written when ctx is cancelled stays.
func (l *List) Run(ctx context.Context) error {
	err := l.run(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return l.interrupted()
	}
	return err
}

// run does what can be refused first.
func (l *List) run(ctx context.Context) (err error) {
	o := l.options
	if err := l.checkSpace(); err != nil {
		return err
	}
	if l.pictures, err = lookAt(l.jobs, o.Background, l.host.Log); err != nil {
		return err
	}
	model, err := l.load(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.weights.Close()) }()
	l.model, l.files = model.Model, model.files
	l.pictures.fillSizes(l.jobs, l.model)
	given, err := o.openLatents(l.jobs, l.model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, given.Close()) }()
	l.given = given
	if err := l.compare(model.files); err != nil {
		return err
	}
	if l.backend, err = l.host.Open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.backend.Close()) }()
	l.compareDevices()
	if err := l.prepare(); err != nil {
		return err
	}
	err = l.draw(ctx)
	return errors.Join(err, l.latents.Close())
}

// interrupted is what a signal ended with.
func (l *List) interrupted() error {
	if !l.out.began && l.out.goOn == nil {
		return fmt.Errorf("%w before the first image: nothing was lost, the same command starts again", ErrInterrupted)
	}
	return fmt.Errorf("%w, %d of %d images are in %s: the same command with --resume goes on", ErrInterrupted, l.count(), len(l.jobs), l.options.OutputDir)
}

// job is one image to draw.
type job struct {
	Settings
	index int
	files []UsedFile // that it is drawn from, but the model's

	done    bool // it is in the folder
	problem error
}

// list lists the images: those of the first prompt, then those of the second, and so on.
func (c *Options) list() ([]*job, error) {
	var errs []error
	if n := c.NumImages; n < 1 || n > mostImages {
		errs = append(errs, fmt.Errorf("--num_images %d: want 1 to %d", n, mostImages))
	}
	if n := c.PreviewSteps; n < 0 { // 0 was not given
		errs = append(errs, fmt.Errorf("--preview_steps %d: want at least 1", n))
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
			j := &job{Settings: d, index: len(work)}
			j.Seed += uint64(i)
			work = append(work, j)
		}
	}
	for _, j := range work {
		errs = append(errs, j.check())
	}
	return work, joinDistinct(errs)
}

// lines are the settings of single prompts: of the flags or of the prompt file, or those of --xy.
func (c *Options) lines() ([]Settings, error) {
	if c.XY != nil {
		sheet, err := c.sheet()
		if err != nil {
			return nil, err
		}
		return sheet.cells, nil
	}
	if c.PromptFile != "" {
		return promptFile(c.PromptFile, c.Settings, c.NumImages)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	var lines []Settings
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

// imagesPerDevice is the largest batch that is chosen where no flag says how large.
const imagesPerDevice = 4

// batch is the number of images to sample at once, of n.
func (c *Options) batch(n, devices int) int {
	if c.BatchSize > 0 {
		return c.BatchSize
	}
	n = min(n, imagesPerDevice*devices)
	return (n + devices - 1) / devices * devices
}

// imageName is the file of image i.
func (c *Options) imageName(i int) string { return fmt.Sprintf("image-%05d.%s", i, c.OutputFormat) }

// Compute is the dtype of weights and activations.
func (s *Settings) Compute() dtypes.DType {
	if s.Dtype == "bf16" {
		return dtypes.BFloat16
	}
	return dtypes.Float32
}

// path is a file of the output folder.
func (c *Options) path(name string) string { return filepath.Join(c.OutputDir, name) }
