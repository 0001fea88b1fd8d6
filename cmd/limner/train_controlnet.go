package main

import (
	"context"

	"github.com/alecthomas/kong"

	"limner/train"
	"limner/xla"
)

type trainControlNetCmd struct {
	trainFlags
	diffusionFlags
	ControlNet train.ControlNetSettings `embed:""`
}

// Help shows one working example.
func (trainControlNetCmd) Help() string {
	return `Example:
  limner train controlnet --pretrained_model_name_or_path sd15 --train_data_dir data \
    --output_dir run --resolution 512 --train_batch_size 4 --learning_rate 1e-5 --max_train_steps 10000
The result is a ControlNet in diffusers' layout in the output folder. Ctrl-C saves a checkpoint; the same command with
--resume_from_checkpoint latest goes on to the same bits.`
}

func (c trainControlNetCmd) Run(ctx context.Context, command *kong.Context) error {
	return runTraining(ctx, command, c, func(ctx context.Context, b *xla.Backend, o train.Options,
		r train.Recipe) (*train.Run, error) {
		if r.ControlNet != "" {
			var err error
			if r.ControlNet, err = locate(ctx, r.ControlNet, ""); err != nil {
				return nil, err
			}
		}
		return train.NewControlNet(ctx, b, o, r)
	})
}

func (c trainControlNetCmd) apply(r *train.Recipe) error {
	r.Diffusion, r.ControlNetSettings = c.Diffusion, c.ControlNet
	return nil
}
