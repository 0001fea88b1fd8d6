package main

import (
	"context"

	"github.com/alecthomas/kong"

	"limner/train"
)

type trainVAECmd struct {
	trainFlags
	Autoencoder train.Autoencoder `embed:""`
}

// Help shows one working example.
func (trainVAECmd) Help() string {
	return `Example:
  limner train vae --pretrained_model_name_or_path sd15 --train_data_dir data --output_dir run \
    --resolution 256 --learning_rate 1e-4 --max_train_steps 5000
The result is a VAE in diffusers' layout in the output folder.`
}

func (c trainVAECmd) Run(ctx context.Context, command *kong.Context) error {
	return runTraining(ctx, command, c, train.NewAutoencoder)
}

func (c trainVAECmd) apply(r *train.Recipe) error {
	r.NoCaptions, r.Autoencoder = true, c.Autoencoder
	return nil
}
