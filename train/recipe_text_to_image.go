package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"limner/models/diffusers"
	"limner/models/nn"
	"limner/train/folder"
	"limner/train/loss"
	"limner/xla"
)

// NewTextToImage prepares the training of a model's UNet, and of its text encoders if asked to. With InstancePrompt and
// Prior it is DreamBooth (Ruiz et al. 2022, arXiv:2208.12242).
func NewTextToImage(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	model, err := r.open(o, b)
	if err != nil {
		return nil, err
	}
	if err := checkDropout(model, r.trainedNetworks(model)...); err != nil {
		return nil, err
	}
	d := r.diffusion("text_to_image", o, model, diffusers.UNet+".")
	components := []folder.Component{{Name: diffusers.UNet, Config: model.UNet}}
	if r.TrainTextEncoder {
		for _, e := range model.TextEncoders() {
			d.Train = append(d.Train, e.Name+".")
			components = append(components, folder.Component{Name: e.Name, Config: e.Config})
		}
	}
	if r.Planned {
		return r.planned(b, o, d.Objective())
	}
	weights, err := r.weights(model, model.Components(), nil)
	if err != nil {
		return nil, err
	}
	if r.FromScratch {
		for _, c := range components {
			weights = weights.with(nn.InitValues(model.Tree(c.Name), o.Seed).Under(c.Name))
		}
	}
	return r.diffusionRun(ctx, b, o, training{model, d, weights, components, func(trained nn.Values) error {
		return weights.with(trained).save(model, o.OutputDir)
	}})
}

// NewLoRA prepares the training of a LoRA for a frozen model.
func NewLoRA(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	if r.LoRA == nil {
		return nil, errors.New("rank, lora_targets: say what to train")
	}
	model, err := r.open(o, b)
	if err != nil {
		return nil, err
	}
	if err := checkDropout(model, r.trainedNetworks(model)...); err != nil {
		return nil, err
	}
	lora := *r.LoRA
	if r.TrainTextEncoder && len(lora.TextTargets) == 0 {
		lora.TextTargets = loss.TextEncoderTargets
	}
	d := r.diffusion("lora", o, model, loss.LoRAPlace+".")
	d.LoRA = &lora
	if err := lora.Check(d.Tree()); err != nil {
		return nil, err
	}
	if r.Planned {
		return r.planned(b, o, d.Objective())
	}
	weights, err := r.weights(model, model.Components(), nil)
	if err != nil {
		return nil, err
	}
	start := lora.Init(d.Tree(), o.Seed)
	if r.LoRAWeights != "" {
		if start, err = lora.Load(model, d.Tree(), r.LoRAWeights); err != nil {
			return nil, errors.Join(fmt.Errorf("network_weights: %w", err), weights.Close())
		}
	}
	weights.values = start
	file := folder.Component{Name: loss.LoRAPlace, File: loss.LoRAFile, Metadata: lora.Metadata(d.Tree())}
	return r.diffusionRun(ctx, b, o, training{
		model, d, weights, []folder.Component{file}, func(trained nn.Values) error {
			return lora.Save(o.OutputDir, r.LoRAFormat, d.Tree(), trained.Within(loss.LoRAPlace))
		},
	})
}

// NewTextualInversion prepares the training of embeddings of new tokens for a frozen model.
func NewTextualInversion(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	model, err := r.open(o, b)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(loss.CheckTokens(r.Tokens, model),
		loss.CheckPrompts(r.Tokens, r.Watch.Validation.Prompts)); err != nil {
		return nil, err
	}
	inversion := func() loss.Diffusion { // of the model as it is
		d := r.diffusion("textual_inversion", o, model, "learned_embeds.")
		d.Tokens = slices.Clone(r.Tokens)
		return d
	}
	if r.Planned {
		return r.planned(b, o, inversion().Objective())
	}
	weights, err := r.weights(model, model.Components(), nil)
	if err != nil {
		return nil, err
	}
	if weights.values, err = loss.AddTokens(r.Tokens, model, weights); err != nil {
		return nil, errors.Join(err, weights.Close())
	}
	d := inversion()
	var components []folder.Component
	for i := range r.Tokens {
		components = append(components, folder.Component{Name: loss.TokenPlace(i), File: loss.TokenFile(r.Tokens, i)})
	}
	return r.diffusionRun(ctx, b, o, training{model, d, weights, components, func(trained nn.Values) error {
		return loss.SaveTokens(o.OutputDir, d, trained)
	}})
}
