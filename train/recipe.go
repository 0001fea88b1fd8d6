package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/data/imaging"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/train/folder"
	"limner/train/loss"
	"limner/train/watch"
	"limner/xla"
)

// Recipe is what a run trains on what, besides its Options.
type Recipe struct {
	Basics
	Diffusion
	ControlNetSettings
	TextEncoderSettings
	DreamBooth
	LoRASettings
	Inversion
	Autoencoder
	Compute dtypes.DType  `json:"compute_dtype" resume:"same"` // of activations: Float32 or BFloat16
	Watch   watch.Options `json:"-"`                           // what is shown of the run

	NeedConditioning bool   `json:"-"` // the rows have conditioning images
	NoCaptions       bool   `json:"-"` // the rows need no captions
	heldOut          bool   // the rows are those that training does not see
	Text             []byte `json:"-"` // recipe.yaml of the output folder: what a person gave; nil writes none
	// Planned says that nothing but Run.Plan will be asked of it: no data and no weights are read, and Model may be one of diffusers.Families.
	Planned  bool                  `json:"-"`
	Log      io.Writer             `json:"-"` // hears what a person may want to know; nil: silence
	OnStep   func(watch.Progress)  `json:"-"`
	OnEncode func(done, total int) `json:"-"` // while latents are cached

	// DrawClass has the images of the class drawn that Prior's folder lacks: after all else was checked, before the rows are read. nil: they are there.
	DrawClass func(context.Context) error `json:"-"`
}

// Validate reports every field out of range.
func (r Recipe) Validate() error {
	var errs []error
	if r.Model == "" {
		errs = append(errs, errors.New("pretrained_model_name_or_path: give a model folder"))
	}
	if len(r.Data) == 0 && !r.Planned {
		errs = append(errs, errors.New("train_data_dir: give a folder of parquet files"))
	}
	if r.Resolution < 1 || r.Resolution > data.MaxResolution {
		errs = append(errs, fmt.Errorf("resolution: got %d, want 1 to %d", r.Resolution, data.MaxResolution))
	}
	if !(r.ProportionEmpty >= 0 && r.ProportionEmpty <= 1) {
		errs = append(errs, fmt.Errorf("proportion_empty_prompts: got %g, want 0 to 1", r.ProportionEmpty))
	}
	if _, err := imaging.NewDecoding(r.Background); err != nil {
		errs = append(errs, err)
	}
	if r.CacheLatents && r.RandomCrop {
		errs = append(errs, errors.New("cache_latents: a random crop shows each image anew in every epoch: give --center_crop, or leave one of them out"))
	}
	if r.CacheDir != "" && !r.CacheLatents {
		errs = append(errs, errors.New("cache_dir: it keeps latents and goes with --cache_latents; models of the Hub are kept below HF_HOME"))
	}
	if r.LoRA != nil {
		errs = append(errs, r.LoRA.Validate())
		if !slices.Contains(loss.LoRAFormats, r.LoRAFormat) {
			errs = append(errs, fmt.Errorf("lora_format: got %q, want %s", r.LoRAFormat, strings.Join(loss.LoRAFormats, ", ")))
		}
	}
	if r.Prior != nil {
		errs = append(errs, r.Prior.Validate())
	}
	if r.Property != "" && !slices.Contains(Properties, r.Property) {
		errs = append(errs, fmt.Errorf("learnable_property: got %q, want %s", r.Property, strings.Join(Properties, ", ")))
	}
	errs = append(errs, r.Loss.Validate())
	return errors.Join(errs...)
}

// Check fails where a run on so many devices is refused without a look at the model and the dataset: its fields are out of range, or the
// output folder is another's. It touches nothing, and comes before anything takes long.
func (r Recipe) Check(o Options, devices int) error {
	if err := errors.Join(r.Validate(), o.Validate()); err != nil {
		return err
	}
	if !r.Planned {
		if err := o.output().Check(); err != nil {
			return err
		}
	}
	if o.Batch%devices != 0 {
		return fmt.Errorf("batch %d does not divide over %d devices: use a multiple of %d", o.Batch, devices, devices)
	}
	if r.Prior != nil && o.Batch%2 != 0 {
		return fmt.Errorf("batch %d: want an even number, half of it for the class", o.Batch)
	}
	return nil
}

// open checks the recipe and reads the model's configs.
func (r Recipe) open(o Options, b *xla.Backend) (*diffusers.Pipeline, error) {
	if r.CacheDir != "" && !b.Process().Alone() {
		return nil, errors.New("cache_dir: the machines of a slice encode together, so none may have what others lack: leave it out")
	}
	if err := r.Check(o, b.Devices()); err != nil {
		return nil, err
	}
	model, err := r.model()
	if err != nil {
		return nil, err
	}
	if in, out := model.UNet.InChannels, model.UNet.OutChannels; in != out {
		return nil, fmt.Errorf("%s is an inpainting model (%d in_channels): supported for training are those with %d", r.Model, in, out)
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

// checkDropout fails if diffusers' scripts would drop out elements of networks that are trained, which nothing here does.
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
			errs = append(errs, fmt.Errorf("%s/config.json: %s is %g, and training is supported without: set it to 0", component, field, share))
		}
	}
	return errors.Join(errs...)
}

// trainedNetworks are those that a run of r changes beside the model's ControlNet and VAE: the UNet, and the text encoders if asked to.
func (r Recipe) trainedNetworks(model *diffusers.Pipeline) []string {
	if !r.TrainTextEncoder {
		return []string{diffusers.UNet}
	}
	return slices.DeleteFunc(model.Components(), func(component string) bool { return component == diffusers.VAE })
}

// weights opens the files of a model's components and of the ControlNet to go on from, if there is one, whose parameters control lists. It fails
// where they do not hold what they should.
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

// rows says what is read of the dataset. Beside other processes, this one's part of each batch is.
func (r Recipe) rows(b *xla.Backend, o Options) data.Options {
	rows := data.DefaultOptions()
	rows.Reading, rows.MaskColumn = r.Reading, r.MaskColumn
	rows.NeedConditioning, rows.HeldOut, rows.Log = r.NeedConditioning, r.heldOut, r.Log
	rows.NoCaptions = r.NoCaptions || r.InstancePrompt != "" || r.Property != "" && r.Property != PropertyCaption
	rows.Resolution, rows.BatchSize, rows.Seed = r.Resolution, o.Batch, o.Seed
	rows.Part, rows.Parts = b.Process().Index, b.Process().Count
	return rows
}

// dataset opens the images, and those of the class behind them. It fails where no batch of them can be made, and where
// none of the first can be used.
func (r Recipe) dataset(b *xla.Backend, o Options) (d *data.Dataset, err error) {
	rows := r.rows(b, o)
	if r.Prior == nil {
		d, err = data.Open(r.Data, rows)
	} else {
		d, err = data.OpenBoth(r.Data, r.Prior.Data, rows)
	}
	if err != nil {
		return nil, err
	}
	if err = d.CheckBatches(); err == nil {
		err = checkBatchMemory(rows)
	}
	if err == nil {
		err = d.CheckRows()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// bothDatasets opens the images to train on and those for the validation loss, nil if there are to be none, before either is encoded.
func (r Recipe) bothDatasets(b *xla.Backend, o Options) (dataset, held *data.Dataset, err error) {
	if dataset, err = r.dataset(b, o); err != nil || len(r.Watch.Validation.Data) == 0 {
		return dataset, nil, err
	}
	if held, err = r.ofHeldOut().dataset(b, o); err == nil {
		err = apart(dataset, held)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("validation_data_dir: %w", err), closeBoth(dataset, held))
	}
	return dataset, held, nil
}

// apart fails where rows of held are trained on.
func apart(dataset, held *data.Dataset) error {
	shared, err := held.Shares(dataset)
	if err == nil && shared != "" {
		err = fmt.Errorf("%s is trained on: name images that training does not see", shared)
	}
	return err
}

// closeBoth closes the datasets of bothDatasets.
func closeBoth(dataset, held *data.Dataset) error {
	err := dataset.Close()
	if held != nil {
		err = errors.Join(err, held.Close())
	}
	return err
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
		encoder := Encoder{
			Backend: b, VAE: model.VAE, Weights: weights, Resolution: r.Resolution, Batch: o.Batch,
			Flips: r.RandomFlip, CacheDir: r.CacheDir,
			Progress: r.OnEncode, Log: r.Log,
		}
		if feed.Moments, err = encoder.Encode(ctx, dataset); err != nil {
			return nil, err
		}
	}
	measured, err := r.held(ctx, b, o, feed, weights, held)
	if err != nil {
		return nil, err
	}
	return &Run{
		Options: o, Backend: b, Objective: d.Objective(), Components: t.components, Weights: weights, Dataset: dataset,
		Feed: feed.Put, Finish: t.finish, OnStep: r.OnStep, Log: r.Log, Recipe: r, Networks: networks, Held: measured,
		Drawing: r.drawing(model, d, weights),
	}, nil
}
