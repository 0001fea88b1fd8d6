package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"limner/demo"
	"limner/train/watch"
)

type demoCmd struct {
	OutputDir         string  `default:"limner-demo" placeholder:"DIR" help:"Folder for everything that the demo makes."`
	MaxTrainSteps     int     `default:"${demo_steps}" help:"Steps of the ControlNet's training."`
	TrainBatchSize    int     `default:"${demo_batch}" help:"Images of a step."`
	LearningRate      float64 `default:"${demo_rate}" help:"Of AdamW."`
	Images            int     `default:"${demo_images}" help:"Pictures in the dataset."`
	Cases             int     `default:"${demo_cases}" help:"Unseen prompts and outlines to sample."`
	NumInferenceSteps int     `default:"${demo_inference}" help:"Denoising steps."`
	GuidanceScale     float64 `default:"${demo_guidance}" help:"Of classifier-free guidance."`
	Seed              uint64  `default:"${demo_seed}" help:"Of everything random."`
	runFlags
}

// Help shows one working example.
func (demoCmd) Help() string {
	return `Example:
  limner demo --output_dir limner-demo
It writes a dataset of circles, trains a ControlNet for the shipped base model on it, and samples what training never saw,
with the ControlNet and without: some minutes on two cores.`
}

func (c demoCmd) Run(ctx context.Context) error {
	b, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hooks, done := jobHooks()
	report, err := demo.Do(ctx, b, demo.Options{
		OutputDir: c.OutputDir, Seed: c.Seed, Images: c.Images, Steps: c.MaxTrainSteps, Batch: c.TrainBatchSize, LearningRate: c.LearningRate,
		Cases: c.Cases, NumInferenceSteps: c.NumInferenceSteps, GuidanceScale: c.GuidanceScale,
	}, hooks)
	if err := errors.Join(err, done()); err != nil {
		return err
	}
	fmt.Print(report.Text(c.OutputDir))
	return nil
}

// demoDefaults are the values of the flags' defaults, which package demo holds.
func demoDefaults() map[string]string {
	o, base := demo.DefaultOptions(), demo.DefaultBaseOptions()
	text := func(v any) string { return fmt.Sprint(v) }
	return map[string]string{
		"demo_steps": text(o.Steps), "demo_batch": text(o.Batch), "demo_rate": text(o.LearningRate), "demo_images": text(o.Images),
		"demo_cases": text(o.Cases), "demo_inference": text(o.NumInferenceSteps), "demo_guidance": text(o.GuidanceScale), "demo_seed": text(o.Seed),
		"base_images": text(base.Images), "base_vae_steps": text(base.VAESteps), "base_unet_steps": text(base.UNetSteps), "base_decoder_steps": text(base.DecoderSteps), "base_seed": text(base.Seed),
	}
}

type baseCmd struct {
	OutputDir    string `required:"" placeholder:"DIR" help:"Folder for the dataset, the runs and, in DIR/base, the model."`
	Images       int    `default:"${base_images}" help:"Pictures in the dataset."`
	VAESteps     int    `name:"vae-steps" default:"${base_vae_steps}" help:"Steps of the VAE's training."`
	UNetSteps    int    `name:"unet-steps" default:"${base_unet_steps}" help:"Steps of the UNet's training."`
	DecoderSteps int    `default:"${base_decoder_steps}" help:"Steps that refine the VAE's decoder at the end."`
	Seed         uint64 `default:"${base_seed}" help:"Of everything random."`
	runFlags
}

// Help shows one working example.
func (baseCmd) Help() string {
	return `Example:
  limner base --output_dir base-run
It trains the tiny Stable Diffusion model that the demo uses, from nothing, on pictures of circles: about an hour on two
cores. Run it again after an interruption to continue.`
}

func (c baseCmd) Run(ctx context.Context) error {
	b, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	o := demo.DefaultBaseOptions()
	o.OutputDir, o.Images, o.VAESteps, o.UNetSteps, o.DecoderSteps, o.Seed = c.OutputDir, c.Images, c.VAESteps, c.UNetSteps, c.DecoderSteps, c.Seed
	hooks, done := jobHooks()
	if err := errors.Join(demo.TrainBase(ctx, b, o, hooks), done()); err != nil {
		return err
	}
	fmt.Println(filepath.Join(c.OutputDir, "base"))
	return nil
}

// jobHooks show a job of several phases on the terminal.
func jobHooks() (hooks demo.Hooks, done func() error) {
	var p *progress
	done = func() error {
		if p == nil {
			return nil
		}
		return p.Close()
	}
	hooks = demo.Hooks{
		Log: besideBar{func() *progress { return p }},
		Phase: func(name string) {
			_ = done() // a bar that is not finished, of a phase that is
			fmt.Fprintf(os.Stderr, "\n%s\n", name)
			p = newProgress(os.Stderr, name)
		},
		Step:  func(s watch.Progress) { p.Step(s.Step, s.Steps, stepFields(s)) },
		Count: func(n, total int) { p.Step(n, total, "") },
	}
	return hooks, done
}
