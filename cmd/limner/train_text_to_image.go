package main

import (
	"context"

	"github.com/alecthomas/kong"

	"limner/train"
)

type trainTextToImageCmd struct {
	trainFlags
	diffusionFlags
	TextEncoder train.TextEncoderSettings `embed:""`
}

// Help shows one working example.
func (trainTextToImageCmd) Help() string {
	return `Example:
  limner train text-to-image --pretrained_model_name_or_path sd15 --train_data_dir data \
    --output_dir run --resolution 512 --learning_rate 1e-5 --max_train_steps 5000 --use_ema
The result is a whole model in diffusers' layout in the output folder.`
}

func (c trainTextToImageCmd) Run(ctx context.Context, command *kong.Context) error {
	return runTraining(ctx, command, c, train.NewTextToImage)
}

func (c trainTextToImageCmd) apply(r *train.Recipe) error {
	r.Diffusion, r.TextEncoderSettings = c.Diffusion, c.TextEncoder
	return nil
}
