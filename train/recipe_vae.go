package train

import (
	"context"
	"errors"

	"limner/data"
	"limner/data/imaging"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/train/folder"
	"limner/train/loss"
	"limner/xla"
	"limner/xla/program"
)

// NewAutoencoder prepares the training of a model's VAE.
func NewAutoencoder(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	model, err := r.open(o, b)
	if err != nil {
		return nil, err
	}
	objective := loss.Autoencoder{
		VAE: model.VAE, KLWeight: r.KLWeight, Decoder: r.DecoderOnly, Batch: o.Batch, Resolution: r.Resolution,
	}.Objective()
	if r.Planned {
		return r.planned(b, o, objective)
	}
	if err := r.ready(ctx, b, o, model, objective.Trainable); err != nil {
		return nil, err
	}
	tree := model.VAE.Tree().Under(diffusers.VAE)
	var weights startWeights
	if r.FromScratch {
		weights.values = nn.InitValues(model.VAE.Tree(), o.Seed).Under(diffusers.VAE)
	} else if weights, err = r.weights(model, []string{diffusers.VAE}, nil); err != nil {
		return nil, err
	}
	r.NoCaptions = true
	// diffusers' script has no choice of the filter.
	if r.Interpolation, err = r.interpolation(o, imaging.Bilinear); err != nil {
		return nil, errors.Join(err, weights.Close())
	}
	dataset, err := r.dataset(b, o)
	if err != nil {
		return nil, errors.Join(err, weights.Close())
	}
	return &Run{
		Options: o, Backend: b, Objective: objective,
		Components: []folder.Component{{Name: diffusers.VAE, Config: model.VAE}}, Weights: weights, Dataset: dataset,
		OnStep: r.OnStep, Log: r.Log, Recipe: r, Networks: map[string]any{diffusers.VAE: model.VAE},
		Feed: func(batch *data.Batch) (program.Arrays, error) {
			a, err := xla.PutRows(b, batch.Pixels, o.Batch, r.Resolution, r.Resolution, model.VAE.InChannels)
			return program.Arrays{loss.InputPixels: a}, err
		},
		Finish: func(trained nn.Values) error {
			values, err := checkpoint.Collect(weights.with(trained), tree)
			if err != nil {
				return err
			}
			return diffusers.SaveComponent(o.OutputDir, diffusers.VAE, model.VAE, tree, values, "F32")
		},
	}, nil
}
