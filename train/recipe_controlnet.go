package train

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"limner/controlnet"
	"limner/controlnet/condition"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/train/folder"
	"limner/xla"
)

// unetDecoder are the beginnings of the keys of the UNet's decoder.
var unetDecoder = []string{
	diffusers.UNet + ".up_blocks.", diffusers.UNet + ".conv_norm_out.", diffusers.UNet + ".conv_out.",
}

// NewControlNet prepares the training of a ControlNet for a frozen model or, with SDUnlocked, for one whose UNet's
// decoder is trained too.
func NewControlNet(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	if r.TrainTextEncoder {
		return nil, errors.New("train_text_encoder: a ControlNet is trained with the text encoder frozen")
	}
	r.NeedConditioning = true
	if r.Condition != "" {
		taken, err := condition.Parse(r.Condition)
		if err != nil {
			return nil, err
		}
		r.Condition = taken.String() // as it is recorded, however it was written
	}
	model, err := r.open(o, b)
	if err != nil {
		return nil, err
	}
	config, err := r.controlNetConfig(model)
	if err != nil {
		return nil, err
	}
	d := r.diffusion("controlnet", o, model, diffusers.ControlNet+".")
	d.ControlNet, d.Control = &config, r.Control
	if r.SDUnlocked {
		d.Train = append(d.Train, unetDecoder...)
	}
	if r.Planned {
		return r.planned(b, o, d.Objective())
	}
	tree := config.Tree()
	weights, err := r.weights(model, model.Components(), tree)
	if err != nil {
		return nil, err
	}
	if r.ControlNet == "" {
		drawn, copied := config.Init(model.UNet.Tree(), o.Seed)
		weights.values, weights.copied = drawn.Under(diffusers.ControlNet), map[string]string{}
		for _, spec := range copied {
			weights.copied[diffusers.ControlNet+"."+spec.Key] = diffusers.UNet + "." + spec.Key
		}
	}
	tree = tree.Under(diffusers.ControlNet)
	if r.OnlyMidControl {
		weights = weights.with(withoutDown(tree))
	}
	components := []folder.Component{{Name: diffusers.ControlNet, Config: config}}
	if r.SDUnlocked {
		components = append(components, folder.Component{Name: diffusers.UNet, File: "unet_decoder.safetensors"})
	}
	return r.diffusionRun(ctx, b, o, training{model, d, weights, components, func(trained nn.Values) error {
		dir, all := o.OutputDir, weights.with(trained)
		if r.SDUnlocked {
			dir = filepath.Join(o.OutputDir, diffusers.ControlNet)
			if err := all.save(model, o.OutputDir); err != nil {
				return err
			}
		}
		values, err := checkpoint.Collect(all, tree)
		if err != nil {
			return err
		}
		return diffusers.SaveComponent(dir, diffusers.ControlNet, config, tree, values, "F32")
	}})
}

// withoutDown puts the zero convolutions of a ControlNet's down blocks at zero: they have no say in training, and
// should have none in drawing.
func withoutDown(control nn.Tree) nn.Values {
	out := nn.Values{}
	for _, spec := range control {
		if strings.HasPrefix(spec.Key, diffusers.ControlNet+".controlnet_down_blocks.") {
			out[spec.Key] = make([]float32, spec.Size())
		}
	}
	return out
}

// controlNetConfig is that of the ControlNet to train.
func (r Recipe) controlNetConfig(model *diffusers.Pipeline) (config controlnet.Config, err error) {
	if r.ControlNet != "" {
		if config, err = diffusers.ReadControlNet(r.ControlNet, r.Log); err != nil {
			return config, err
		}
		if err := config.CheckUNet(model.UNet); err != nil {
			return config, fmt.Errorf("%s does not fit %s: %w", r.ControlNet, r.Model, err)
		}
		if config.Dropout != 0 { // of Flax's
			return config, fmt.Errorf("%s: dropout is %g, and training is supported without: set it to 0",
				r.ControlNet, config.Dropout)
		}
	} else {
		config = controlnet.FromUNet(model.UNet, r.EmbeddingChannels)
		if err := config.Validate(); err != nil {
			return config, err
		}
	}
	if config.Stride() != model.VAE.Scale() {
		return config, fmt.Errorf("the conditioning embedding makes one latent of %d pixels each way, the VAE of %d: "+
			"give %d conditioning_embedding_out_channels",
			config.Stride(), model.VAE.Scale(), len(model.VAE.BlockOutChannels))
	}
	return config, nil
}
