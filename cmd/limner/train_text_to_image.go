package main

import (
	"context"

	"github.com/alecthomas/kong"

	"limner/train"
)

type trainTextToImageCmd struct {
	trainFlags
	cacheFlags
	lossFlags
	TrainTextEncoder bool `help:"Train the text encoders too."`
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
	r.TrainTextEncoder = c.TrainTextEncoder
	c.cacheFlags.apply(r)
	c.lossFlags.apply(r)
	return nil
}

// cacheFlags are the flags of trainings that see images through the VAE.
type cacheFlags struct {
	CacheLatents           bool    `help:"Encode every image once before training; takes host memory for all latents."`
	CacheDir               string  `placeholder:"DIR" help:"Folder that keeps the latents of --cache_latents for other runs, and other machines."`
	MaskColumn             string  `placeholder:"NAME" help:"Column of masks: the loss counts where they are bright."`
	ProportionEmptyPrompts float64 `default:"0" help:"Share of captions replaced by the empty one, which guidance needs."`
}

func (f cacheFlags) apply(r *train.Recipe) {
	r.CacheLatents, r.CacheDir = f.CacheLatents, f.CacheDir
	r.ProportionEmpty, r.Columns.MaskColumn = f.ProportionEmptyPrompts, f.MaskColumn
}
