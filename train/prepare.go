package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"limner/models/diffusers"
	"limner/models/nn"
	"limner/train/folder"
	"limner/train/latents"
	"limner/train/loss"
	"limner/xla"
)

// open checks the recipe and reads the model's configs.
func (r Recipe) open(o Options, b *xla.Backend) (*diffusers.Pipeline, error) {
	if r.CacheDir != "" && !processesOf(b).alone() {
		return nil, errors.New("cache_dir: the machines of a slice encode together, " +
			"so none may have what others lack: leave it out")
	}
	if err := r.Check(o, b.Devices()); err != nil {
		return nil, err
	}
	model, err := r.model()
	if err != nil {
		return nil, err
	}
	if in, out := model.UNet.InChannels, model.UNet.OutChannels; in != out {
		return nil, fmt.Errorf("%s is an inpainting model (%d in_channels): supported for training are those with %d",
			r.Model, in, out)
	}
	if err := r.Loss.CheckModel(model.Noise); err != nil {
		return nil, err
	}
	model.Noise = r.Loss.Schedule(model.Noise)
	if scale := model.VAE.Scale(); r.Resolution < scale || r.Resolution%scale != 0 {
		return nil, fmt.Errorf("resolution: got %d, want a multiple of %d", r.Resolution, scale)
	}
	return model, nil
}

// model reads the model's configs.
func (r Recipe) model() (*diffusers.Pipeline, error) {
	if r.Planned && slices.Contains(diffusers.Families, r.Model) {
		return diffusers.Family(r.Model)
	}
	opening := r.Opening()
	opening.Log = r.Log
	return diffusers.OpenWith(r.Model, opening)
}

// checkDropout fails if diffusers' scripts would drop out elements of networks that are trained, which nothing here
// does.
func checkDropout(model *diffusers.Pipeline, components ...string) error {
	var errs []error
	for _, component := range components {
		field, share := "dropout", model.UNet.Dropout
		switch component {
		case diffusers.TextEncoder:
			field, share = "attention_dropout", model.Text.AttentionDropout
		case diffusers.TextEncoder2:
			field, share = "attention_dropout", model.Text2.AttentionDropout
		}
		if share != 0 {
			errs = append(errs, fmt.Errorf("%s/config.json: %s is %g, and training is supported without: set it to 0",
				component, field, share))
		}
	}
	return errors.Join(errs...)
}

// trainedNetworks are those that a run of r changes beside the model's ControlNet and VAE: the UNet, and the text
// encoders if asked to.
func (r Recipe) trainedNetworks(model *diffusers.Pipeline) []string {
	if !r.TrainTextEncoder {
		return []string{diffusers.UNet}
	}
	return slices.DeleteFunc(model.Components(), func(component string) bool { return component == diffusers.VAE })
}

// weights opens the files of a model's components and of the ControlNet to go on from, if there is one, whose
// parameters control lists. It fails where they do not hold what they should.
func (r Recipe) weights(model *diffusers.Pipeline, components []string, control nn.Tree) (startWeights, error) {
	files, err := model.Weights(components...)
	if err != nil {
		return startWeights{}, err
	}
	if r.ControlNet != "" {
		err = files.Open(diffusers.ControlNet, r.ControlNet, control)
	}
	if err == nil {
		err = files.Check()
	}
	if err != nil {
		return startWeights{}, errors.Join(err, files.Close())
	}
	return startWeights{files: files}, nil
}

// planned is a run of which nothing but Plan may be asked.
func (r Recipe) planned(b *xla.Backend, o Options, objective loss.Objective) (*Run, error) {
	return &Run{Options: o, Backend: b, Objective: objective}, nil
}

// diffusion is the loss of the model's networks with what begins with train trained.
func (r Recipe) diffusion(name string, o Options, model *diffusers.Pipeline, train ...string) loss.Diffusion {
	d := loss.Diffusion{
		Networks: model.Networks, Compute: r.Compute,
		Sizes: loss.Sizes{Batch: o.Batch, Resolution: r.Resolution, Tokens: model.Tokenizer.MaxLength()},
		Name:  name, Train: train, Loss: r.Loss, CachedLatents: r.CacheLatents, Masked: r.MaskColumn != "",
	}
	if r.Prior != nil {
		d.PriorRows, d.PriorWeight = o.Batch/2, r.Prior.Weight
	}
	return d
}

// training is what a recipe makes of a model.
type training struct {
	model      *diffusers.Pipeline
	diffusion  loss.Diffusion
	weights    startWeights       // those that it begins with
	components []folder.Component // what is trained, as checkpoints have it
	finish     func(trained nn.Values) error
}

// diffusionRun prepares a run with the diffusion loss. The weights are the run's, or closed when it fails.
func (r Recipe) diffusionRun(ctx context.Context, b *xla.Backend, o Options, t training) (run *Run, err error) {
	model, d, weights := t.model, t.diffusion, t.weights
	defer func() {
		if err != nil {
			err = errors.Join(err, weights.Close())
		}
	}()
	if err := r.Watch.Validation.Validate(d.ControlNet != nil); err != nil {
		return nil, err
	}
	if err := r.ready(ctx, b, o, model, d.Objective().Trainable); err != nil {
		return nil, err
	}
	if r.Interpolation, err = r.interpolation(o, r.scriptFilter(model)); err != nil {
		return nil, err
	}
	dataset, held, err := r.bothDatasets(b, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeBoth(dataset, held))
		}
	}()
	feed := DiffusionFeed{
		Backend: b, Diffusion: d, Tokenizer: model.Tokenizer, Tokenizer2: model.Tokenizer2,
		Dropout: r.ProportionEmpty, Seed: o.Seed, Caption: r.caption(o),
	}
	networks := map[string]any{diffusers.UNet: model.UNet, diffusers.VAE: model.VAE, "scheduler": model.Noise}
	for _, e := range model.TextEncoders() {
		networks[e.Name] = e.Config
	}
	if r.CacheLatents {
		encoder := latents.Encoder{
			Backend: b, VAE: model.VAE, Weights: weights, Resolution: r.Resolution, Batch: o.Batch,
			Flips: r.RandomFlip, CacheDir: r.CacheDir,
			Progress: r.OnEncode, Log: r.Log,
		}
		if feed.Moments, err = Encode(ctx, encoder, dataset); err != nil {
			return nil, err
		}
	}
	measured, err := r.held(ctx, b, o, feed, weights, held)
	if err != nil {
		return nil, err
	}
	return &Run{
		Options: o, Backend: b, Objective: d.Objective(), Components: t.components, Weights: weights, Dataset: dataset,
		Feed: feed.Put, Captions: feed.captions, Finish: t.finish, OnStep: r.OnStep, Log: r.Log, Recipe: r,
		Networks: networks, Held: measured, Drawing: r.drawing(model, d, weights),
	}, nil
}
