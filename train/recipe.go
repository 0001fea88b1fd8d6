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
	Model             string // pretrained_model_name_or_path: a Stable Diffusion folder or file
	Opening           diffusers.Options
	ControlNet        string        // controlnet_model_name_or_path: the ControlNet to go on from; "" copies the UNet's encoder
	EmbeddingChannels []int         // conditioning_embedding_out_channels of a new ControlNet; nil is diffusers' default
	Data              []string      // parquet files, or folders of them
	Columns           data.Options  // names of columns, workers, buffers; the rest is set here
	Resolution        int           // pixels, each way
	CacheLatents      bool          // encode every image once, before training
	CacheDir          string        // keeps what was encoded for other runs; "" does not
	ProportionEmpty   float64       // proportion_empty_prompts: share of captions dropped
	FromScratch       bool          // start the trained networks from random weights
	TrainTextEncoder  bool          // with the UNet
	SDUnlocked        bool          // train the UNet's decoder with its ControlNet
	OnlyMidControl    bool          // add a ControlNet's residual to the UNet's middle block alone
	LoRA              *loss.LoRA    // trained instead of the networks; nil trains those
	LoRAWeights       string        // network_weights: the file of a LoRA to go on from; "" starts a new one
	LoRAFormat        string        // of the result: "diffusers", "kohya" or "both"
	Tokens            []loss.Token  // learned by textual inversion
	Property          string        // what Tokens are, see Properties
	InstancePrompt    string        // every caption, in place of a column; "" reads the column
	Prior             *Prior        // images of the class of those in Data; nil: no prior preservation
	KLWeight          float64       // of a VAE's loss
	DecoderOnly       bool          // train the VAE's decoder and leave the latents as they are
	Loss              loss.Loss     // of a diffusion model
	Compute           dtypes.DType  // of activations: Float32 or BFloat16
	Text              []byte        // recipe.yaml of the output folder: what a person gave; nil writes none
	Watch             watch.Options // what is shown of the run
	Planned           bool          // nothing but Run.Plan will be asked of it: no data and no weights are read, and Model may be one of diffusers.Families
	Log               io.Writer     // hears what a person may want to know; nil: silence
	OnStep            func(watch.Progress)
	OnEncode          func(done, total int) // while latents are cached

	// DrawClass has the images of the class drawn that Prior's folder lacks: after all else was checked, before the rows are read. nil: they are there.
	DrawClass func(context.Context) error
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
	if _, err := imaging.NewDecoding(r.Columns.Background); err != nil {
		errs = append(errs, err)
	}
	if r.CacheLatents && r.Columns.RandomCrop {
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
	errs = append(errs, r.Loss.Check())
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
	if err := r.Loss.Validate(model.Noise); err != nil {
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
	opening := r.Opening
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

// dataset opens the images, and those of the class behind them. Beside other processes, this one's part of each batch is read.
func (r Recipe) dataset(b *xla.Backend, o Options, conditioning bool) (*data.Dataset, error) {
	r.Columns.NeedConditioning = conditioning
	return r.openRows(b, o)
}

// openRows opens the rows that Columns say. It fails where no batch of them can be made, and where none of the first can be used.
func (r Recipe) openRows(b *xla.Backend, o Options) (d *data.Dataset, err error) {
	columns := r.Columns
	columns.Log = r.Log
	columns.NoCaptions = columns.NoCaptions || r.InstancePrompt != "" || r.Property != "" && r.Property != PropertyCaption
	columns.Resolution, columns.BatchSize, columns.Seed = r.Resolution, o.Batch, o.Seed
	columns.Part, columns.Parts = b.Process().Index, b.Process().Count
	if r.Prior == nil {
		d, err = data.Open(r.Data, columns)
	} else {
		d, err = data.OpenBoth(r.Data, r.Prior.Data, columns)
	}
	if err != nil {
		return nil, err
	}
	if err = d.CheckBatches(); err == nil {
		err = checkBatchMemory(columns)
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
func (r Recipe) bothDatasets(b *xla.Backend, o Options, conditioning bool) (dataset, held *data.Dataset, err error) {
	if dataset, err = r.dataset(b, o, conditioning); err != nil || len(r.Watch.Validation.Data) == 0 {
		return dataset, nil, err
	}
	if held, err = r.heldOut().dataset(b, o, conditioning); err == nil {
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
		Name:  name, Train: train, Loss: r.Loss, CachedLatents: r.CacheLatents, Masked: r.Columns.MaskColumn != "",
	}
	if r.Prior != nil {
		d.PriorRows, d.PriorWeight = o.Batch/2, r.Prior.Weight
	}
	return d
}

// diffusionRun prepares a run with the diffusion loss, which begins with weights.
func (r Recipe) diffusionRun(ctx context.Context, b *xla.Backend, o Options, model *diffusers.Pipeline, d loss.Diffusion, weights startWeights, components []folder.Component, finish func(nn.Values) error) (run *Run, err error) {
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
	dataset, held, err := r.bothDatasets(b, o, d.ControlNet != nil)
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
			Flips: r.Columns.RandomFlip, CacheDir: r.CacheDir,
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
		Options: o, Backend: b, Objective: d.Objective(), Components: components, Weights: weights, Dataset: dataset,
		Feed: feed.Put, Finish: finish, OnStep: r.OnStep, Log: r.Log, Recipe: r, Networks: networks, Held: measured,
		Drawing: r.drawing(model, d, weights),
	}, nil
}
