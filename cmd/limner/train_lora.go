package main

import (
	"context"
	"slices"

	"github.com/alecthomas/kong"

	"limner/train"
	"limner/train/loss"
)

type trainLoRACmd struct {
	trainFlags
	cacheFlags
	lossFlags
	classFlags
	NetworkWeights   string   `placeholder:"FILE" help:"LoRA to go on from, in any naming; --rank and what is trained must be the file's."`
	Rank             int      `default:"4" help:"Of the matrices that are trained."`
	LoRAAlpha        float64  `name:"lora-alpha" placeholder:"X" help:"The matrices' product is multiplied by this over the rank; without it, by 1."`
	LoRADropout      float64  `name:"lora-dropout" default:"0" help:"Share of a layer's inputs that its matrices do not see, in training."`
	LoRATargets      []string `name:"lora-targets" default:"to_q,to_k,to_v,to_out.0" placeholder:"NAME,…" help:"Ends of the names of the UNet's layers to train."`
	TrainConv        bool     `help:"Train the convolutions of residual blocks and samplers too."`
	TrainTextEncoder bool     `help:"Train the attention of the text encoders too."`
	LoRAFormat       string   `name:"lora-format" enum:"diffusers,kohya,both" default:"both" help:"Naming of the result: diffusers, kohya or both, a file for each."`
}

// Help shows one working example.
func (trainLoRACmd) Help() string {
	return `Example:
  limner train lora --pretrained_model_name_or_path sd15 --train_data_dir data --output_dir run \
    --resolution 512 --rank 8 --learning_rate 1e-4 --max_train_steps 2000 --cache_latents
The result is pytorch_lora_weights.safetensors in the output folder, which limner sample --lora and diffusers read, and
pytorch_lora_weights_kohya.safetensors. With --instance_prompt, and --with_prior_preservation, it is DreamBooth's LoRA.`
}

func (c trainLoRACmd) Run(ctx context.Context, command *kong.Context) error {
	return runTraining(ctx, command, c, c.classFlags.before(train.NewLoRA))
}

func (c trainLoRACmd) apply(r *train.Recipe) error {
	r.TrainTextEncoder, r.LoRAWeights, r.LoRAFormat = c.TrainTextEncoder, c.NetworkWeights, c.LoRAFormat
	r.LoRA = &loss.LoRA{Rank: c.Rank, Alpha: c.LoRAAlpha, Dropout: c.LoRADropout, Targets: slices.Clone(c.LoRATargets)}
	if c.LoRAAlpha == 0 {
		r.LoRA.Alpha = float64(max(1, c.Rank)) // a rank below 1 is refused by itself
	}
	if c.TrainConv {
		r.LoRA.Targets = append(r.LoRA.Targets, loss.ConvTargets...)
	}
	if c.TrainTextEncoder {
		r.LoRA.TextTargets = loss.TextEncoderTargets
	}
	c.cacheFlags.apply(r)
	c.lossFlags.apply(r)
	return c.classFlags.apply(r)
}
