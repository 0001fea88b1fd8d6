package batch

import (
	"fmt"
	"path/filepath"
)

// Options say which images are sampled and where they go: flags of limner sample.
type Options struct {
	Settings
	Like       string `group:"images" placeholder:"IMAGE" help:"Repeat an image of limner sample: prompts, numbers and choices are its own unless flags say otherwise, model and files are given as flags and compared. On the same kind of device it is the same to the bit."`
	PromptFile string `group:"prompt" aliases:"from-file" placeholder:"FILE" help:"Prompts, one a line, with kohya's switches behind them; see above."`
	LoRADir    string `group:"model" name:"lora-dir" placeholder:"DIR" help:"Folder of LoRAs, of which those are loaded that a prompt names by <lora:NAME:WEIGHT>; see above."`
	OutputDir  string `group:"output" required:"" placeholder:"DIR" help:"Folder for the images. One that holds an earlier result of this command is replaced, one whose command was stopped is kept for --resume; anything else is left alone."`
	Resume     bool   `group:"output" help:"Go on where this command was stopped: images that are in the folder are not sampled again. Where there is none, begin."`

	Outputs
}

// Outputs say which images are sampled, and what is written of them and beside them.
type Outputs struct {
	XY           Axes   `group:"images" json:"xy,omitempty" name:"xy" type:"axes" placeholder:"NAME=A,B,…" help:"Sample the prompt once for each value, or each pair of values if two settings are given, on one labelled sheet."`
	NumImages    int    `group:"images" json:"num_images" default:"1" help:"Images for each prompt."`
	SaveLatents  bool   `group:"output" json:"save_latents,omitempty" help:"Write latents.safetensors too: the latents after the last step, as the UNet sees them."`
	OutputFormat string `group:"output" json:"output_format" enum:"png,jpeg,webp" default:"png" help:"Of the images: png, jpeg or webp (without loss)."`
	Grid         bool   `group:"output" json:"grid" default:"true" negatable:"" help:"Write grid.png, all images in one, too."`
	PreviewSteps int    `group:"output" json:"preview_steps,omitempty" default:"0" placeholder:"N" help:"Write previews/ every N steps: what the latents look like, without the VAE."`
}

// imagesPerDevice is the largest batch that is chosen where no flag says how large.
const imagesPerDevice = 4

// batch is the number of images to sample at once, of n. A batch of more is filled up with copies, which only repeating
// an image of such a batch is of use for.
func (c *Options) batch(n, devices int) int {
	full := (n + devices - 1) / devices * devices
	switch {
	case c.BatchSize == 0:
		return min(full, imagesPerDevice*devices)
	case c.Like == "" && c.BatchRow == 0 && c.BatchSize%devices == 0:
		return min(full, c.BatchSize)
	}
	return c.BatchSize
}

// imageName is the file of image i.
func (c *Options) imageName(i int) string { return fmt.Sprintf("image-%05d.%s", i, c.OutputFormat) }

// path is a file of the output folder.
func (c *Options) path(name string) string { return filepath.Join(c.OutputDir, name) }

// Axes are the settings of --xy as they are given: one or two of the form NAME=A,B,….
type Axes []string
