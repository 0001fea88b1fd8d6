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
	diffusionFlags
	TextEncoder train.TextEncoderSettings `embed:""`
	loraFlags
	TrainConv bool `group:"model" help:"Train the convolutions of residual blocks and samplers too."`
	classFlags
}

// loraFlags are those of the matrices.
type loraFlags struct {
	LoRA train.LoRASettings `embed:""`
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
	r.Diffusion, r.TextEncoderSettings, r.LoRASettings = c.Diffusion, c.TextEncoder, c.LoRA
	lora := *c.LoRA.LoRA
	lora.Targets = slices.Clone(lora.Targets)
	if lora.Alpha == 0 {
		lora.Alpha = float64(max(1, lora.Rank)) // a rank below 1 is refused by itself
	}
	if c.TrainConv {
		lora.Targets = append(lora.Targets, loss.ConvTargets...)
	}
	if r.TrainTextEncoder {
		lora.TextTargets = loss.TextEncoderTargets
	}
	r.LoRA = &lora
	return c.classFlags.apply(r)
}
