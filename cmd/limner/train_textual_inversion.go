package main

import (
	"context"
	"fmt"

	"github.com/alecthomas/kong"

	"limner/train"
	"limner/train/loss"
)

type trainTextualInversionCmd struct {
	trainFlags
	diffusionFlags
	Inversion        train.Inversion `embed:""`
	PlaceholderToken []string        `group:"model" required:"" sep:"none" placeholder:"TEXT" help:"Token to learn, such as <cat-toy>; may be given several times."`
	InitializerToken []string        `group:"model" required:"" sep:"none" placeholder:"WORD" help:"Word that a token starts from: one for all, or one for each in their order."`
	NumVectors       int             `group:"model" default:"1" help:"Embeddings of each token."`
}

// Help shows one working example.
func (trainTextualInversionCmd) Help() string {
	return `Example:
  limner train textual-inversion --pretrained_model_name_or_path sd15 --train_data_dir toy --placeholder_token "<cat-toy>" \
    --initializer_token toy --output_dir run --resolution 512 --learning_rate 5e-4 --max_train_steps 3000 \
    --validation_prompt "a <cat-toy> on the beach" --validation_steps 500
The result is learned_embeds.safetensors in the output folder, which limner sample --textual_inversion and diffusers read.`
}

func (c trainTextualInversionCmd) Run(ctx context.Context, command *kong.Context) error {
	return runTraining(ctx, command, c, train.NewTextualInversion)
}

func (c trainTextualInversionCmd) apply(r *train.Recipe) error {
	r.Diffusion, r.Inversion = c.Diffusion, c.Inversion
	tokens, initializers := len(c.PlaceholderToken), len(c.InitializerToken)
	if initializers != 1 && initializers != tokens {
		return fmt.Errorf("initializer_token: %d for %d placeholder tokens: give one for each, or one for all",
			initializers, tokens)
	}
	for i, text := range c.PlaceholderToken {
		r.Tokens = append(r.Tokens, loss.Token{
			Text: text, Vectors: c.NumVectors, Initializer: c.InitializerToken[i%initializers],
		})
	}
	return nil
}
