package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"limner/internal/disk"
	"limner/models/diffusers"
	"limner/sample"
	"limner/sample/batch"
	"limner/train"
	"limner/xla"
)

type trainDreamBoothCmd struct {
	trainFlags
	diffusionFlags
	TextEncoder train.TextEncoderSettings `embed:""`
	classFlags
}

// Help shows one working example.
func (trainDreamBoothCmd) Help() string {
	return `Example:
  limner train dreambooth --pretrained_model_name_or_path sd15 --instance_data_dir dog --instance_prompt "a photo of sks dog" \
    --with_prior_preservation --class_data_dir dogs --class_prompt "a photo of dog" --num_class_images 200 \
    --output_dir run --resolution 512 --train_batch_size 2 --learning_rate 5e-6 --max_train_steps 800
Images of the class that are missing are drawn first. The result is a whole model in diffusers' layout in the output folder;
limner train lora takes the same flags.`
}

func (c trainDreamBoothCmd) Run(ctx context.Context, command *kong.Context) error {
	return runTraining(ctx, command, c, c.classFlags.before(train.NewTextToImage))
}

func (c trainDreamBoothCmd) apply(r *train.Recipe) error {
	r.Diffusion, r.TextEncoderSettings = c.Diffusion, c.TextEncoder
	err := c.classFlags.apply(r)
	if r.InstancePrompt == "" && !c.WithPriorPreservation { // with it, the class's flags ask for the prompt
		err = errors.Join(errors.New("instance_prompt: say what the images show, such as \"a photo of sks dog\""), err)
	}
	return err
}

// classFlags are DreamBooth's flags: what the images show, and the class of that.
type classFlags struct {
	DreamBooth            train.DreamBooth `embed:""`
	WithPriorPreservation bool             `group:"data" help:"Train on images that the model itself draws of the class too, half of each batch, so that it keeps its idea of it."`
	ClassDataDir          string           `group:"data" placeholder:"DIR" help:"Folder of the images of the class; those that are missing are drawn into it."`
	NumClassImages        int              `group:"data" default:"100" help:"Images of the class to have at least."`
	SampleBatchSize       int              `group:"data" default:"4" help:"Images of the class drawn at once per device."`
}

// mostClassImages is more than any class needs.
const mostClassImages = 1_000_000

// check reports flags that are out of range or do not go together.
func (f classFlags) check() error {
	switch {
	case !f.WithPriorPreservation && (f.ClassDataDir != "" || f.DreamBooth.Prior.Prompt != ""):
		return errors.New("class_data_dir, class_prompt: they go with --with_prior_preservation, which was not given")
	case f.NumClassImages < 0 || f.NumClassImages > mostClassImages:
		return fmt.Errorf("num_class_images: got %d, want 0 to %d", f.NumClassImages, mostClassImages)
	case f.SampleBatchSize < 1 || f.SampleBatchSize > batch.MostBatch:
		return fmt.Errorf("sample_batch_size: got %d, want 1 to %d", f.SampleBatchSize, batch.MostBatch)
	case f.WithPriorPreservation && f.DreamBooth.InstancePrompt == "":
		return errors.New("instance_prompt: say what the images show, beside what their class is")
	}
	return nil
}

func (f classFlags) apply(r *train.Recipe) error {
	r.DreamBooth = f.DreamBooth
	r.Prior = nil
	if f.WithPriorPreservation {
		prior := *f.DreamBooth.Prior
		if f.ClassDataDir != "" {
			prior.Data = []string{f.ClassDataDir}
		}
		r.Prior = &prior
	}
	return f.check()
}

// before prepares the run, and draws what the class lacks when nothing else can be refused.
func (f classFlags) before(prepare prepareRun) prepareRun {
	return func(ctx context.Context, b *xla.Backend, o train.Options, r train.Recipe) (*train.Run, error) {
		r.DrawClass = func(ctx context.Context) error { return f.draw(ctx, b, o, r) }
		return prepare(ctx, b, o, r)
	}
}

// draw brings the folder of the class to the number of images that it should have.
func (f classFlags) draw(ctx context.Context, b *xla.Backend, o train.Options, r train.Recipe) error {
	set := sample.Folder{Dir: f.ClassDataDir, Count: f.NumClassImages, Prompt: r.Prior.Prompt, Seed: o.Seed}
	missing, err := set.Missing()
	if err != nil || len(missing) == 0 {
		return err
	}
	if !b.Process().Alone() {
		return fmt.Errorf("%d images of the class are missing in %s: on several machines they must be there, "+
			"so let one machine draw them first", len(missing), f.ClassDataDir)
	}
	if err := disk.Writable(f.ClassDataDir); err != nil {
		return fmt.Errorf("class_data_dir: %w", err)
	}
	model, err := diffusers.OpenWith(r.Model, r.Opening())
	if err != nil {
		return err
	}
	weights, err := model.Weights(model.Components()...)
	if err != nil {
		return err
	}
	defer weights.Close()
	p, err := sample.New(ctx, b, sample.Model{Pipeline: model, Weights: weights, Compute: r.Compute, Log: r.Log},
		sample.Shape{Batch: f.SampleBatchSize * b.Devices(), Height: r.Resolution, Width: r.Resolution},
		set.Request(nil))
	if err != nil {
		return err
	}
	bar := newProgress(os.Stderr, "drawing the class")
	err = set.Fill(ctx, p, missing, func(done, total int) { bar.Step(done, total, "") })
	return errors.Join(err, bar.Close(), p.Close())
}
