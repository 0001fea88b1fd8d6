package main

import (
	"context"

	"github.com/alecthomas/kong"

	"limner/train"
	"limner/xla"
)

type trainControlNetCmd struct {
	trainFlags
	cacheFlags
	lossFlags
	ControlNet        string `name:"controlnet-model-name-or-path" aliases:"controlnet" placeholder:"MODEL" help:"ControlNet to go on from: a folder, a single file, or org/name on the Hub; without it, a copy of the UNet's encoder."`
	EmbeddingChannels []int  `name:"conditioning-embedding-out-channels" placeholder:"N,…" help:"Widths of a new ControlNet's conditioning embedding (default 16,32,96,256)."`
	SDUnlocked        bool   `name:"sd-unlocked" help:"Train the UNet's decoder with the ControlNet: the result is a whole model, with the ControlNet in its folder controlnet."`
	OnlyMidControl    bool   `help:"Control the UNet through its middle block alone."`
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
	return runTraining(ctx, command, c, func(ctx context.Context, b *xla.Backend, o train.Options, r train.Recipe) (*train.Run, error) {
		if c.ControlNet != "" {
			var err error
			if r.ControlNet, err = locate(ctx, c.ControlNet, ""); err != nil {
				return nil, err
			}
		}
		return train.NewControlNet(ctx, b, o, r)
	})
}

func (c trainControlNetCmd) apply(r *train.Recipe) error {
	r.EmbeddingChannels, r.SDUnlocked, r.OnlyMidControl = c.EmbeddingChannels, c.SDUnlocked, c.OnlyMidControl
	c.cacheFlags.apply(r)
	c.lossFlags.apply(r)
	return nil
}
