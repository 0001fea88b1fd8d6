package train

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/controlnet"
	"limner/data"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/xla"
)

// Recipe is what a run trains on what, besides its Options.
type Recipe struct {
	Model             string // pretrained_model_name_or_path: a Stable Diffusion folder or file
	Opening           diffusers.Options
	ControlNet        string       // controlnet_model_name_or_path: the ControlNet to go on from; "" copies the UNet's encoder
	EmbeddingChannels []int        // conditioning_embedding_out_channels of a new ControlNet; nil is diffusers' default
	Data              []string     // parquet files, or folders of them
	Columns           data.Options // names of columns, workers, buffers; the rest is set here
	Resolution        int          // pixels, each way
	CacheLatents      bool         // encode every image once, before training
	ProportionEmpty   float64      // proportion_empty_prompts: share of captions dropped
	FromScratch       bool         // start the trained networks from random weights
	TrainTextEncoder  bool         // with the UNet
	KLWeight          float64      // of a VAE's loss
	DecoderOnly       bool         // train the VAE's decoder and leave the latents as they are
	Loss              Loss         // of a diffusion model
	Compute           dtypes.DType // of activations: Float32 or BFloat16
	Text              []byte       // recipe.yaml of the output folder: what a person gave; nil writes none
	Log               io.Writer    // hears what a person may want to know; nil: silence
	OnStep            func(Progress)
	OnEncode          func(done, total int) // while latents are cached
}

// Validate reports every field out of range.
func (r Recipe) Validate() error {
	var errs []error
	if r.Model == "" {
		errs = append(errs, errors.New("pretrained_model_name_or_path: give a model folder"))
	}
	if len(r.Data) == 0 {
		errs = append(errs, errors.New("train_data_dir: give a folder of parquet files"))
	}
	if !(r.ProportionEmpty >= 0 && r.ProportionEmpty <= 1) {
		errs = append(errs, fmt.Errorf("proportion_empty_prompts: got %g, want 0 to 1", r.ProportionEmpty))
	}
	return errors.Join(errs...)
}

// NewControlNet prepares the training of a ControlNet for a frozen model.
func NewControlNet(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	if r.TrainTextEncoder {
		return nil, errors.New("train_text_encoder: a ControlNet is trained with the text encoder frozen")
	}
	model, err := r.open(o, b)
	if err != nil {
		return nil, err
	}
	frozen, err := model.Load(diffusers.UNet, diffusers.TextEncoder, diffusers.VAE)
	if err != nil {
		return nil, err
	}
	config := controlnet.FromUNet(model.UNet, r.EmbeddingChannels)
	var trainable nn.Values
	if r.ControlNet != "" {
		if config, trainable, err = diffusers.OpenControlNet(r.ControlNet); err != nil {
			return nil, err
		}
		if err := config.CheckUNet(model.UNet); err != nil {
			return nil, fmt.Errorf("%s does not fit %s: %w", r.ControlNet, r.Model, err)
		}
	} else if err := config.Validate(); err != nil {
		return nil, err
	} else {
		trainable = config.Init(frozen.Within(diffusers.UNet), o.Seed).Under(diffusers.ControlNet)
	}
	if config.Stride() != model.VAE.Scale() {
		return nil, fmt.Errorf("the conditioning embedding makes one latent of %d pixels each way, the VAE of %d: give %d conditioning_embedding_out_channels",
			config.Stride(), model.VAE.Scale(), len(model.VAE.BlockOutChannels))
	}
	run, err := r.diffusion(ctx, b, o, model, &config, trainable, frozen)
	if err != nil {
		return nil, err
	}
	run.Components = []Component{{diffusers.ControlNet, config}}
	run.Finish = func(trained nn.Values) error {
		return diffusers.SaveComponent(o.OutputDir, diffusers.ControlNet, config, run.Objective.Trainable, trained, "F32")
	}
	return run, nil
}

// NewTextToImage prepares the training of a model's UNet, and of its text encoder if asked to.
func NewTextToImage(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	model, err := r.open(o, b)
	if err != nil {
		return nil, err
	}
	values, err := model.Load(diffusers.UNet, diffusers.TextEncoder, diffusers.VAE)
	if err != nil {
		return nil, err
	}
	components := []Component{{diffusers.UNet, model.UNet}}
	if r.TrainTextEncoder {
		components = append(components, Component{diffusers.TextEncoder, model.Text})
	}
	if r.FromScratch {
		for _, c := range components {
			values = nn.Merge(values, nn.InitValues(model.Tree(c.Name), o.Seed).Under(c.Name))
		}
	}
	run, err := r.diffusion(ctx, b, o, model, nil, values, values)
	if err != nil {
		return nil, err
	}
	run.Components = components
	run.Finish = func(trained nn.Values) error { return model.Save(o.OutputDir, nn.Merge(values, trained), "F32") }
	return run, nil
}

// NewAutoencoder prepares the training of a model's VAE.
func NewAutoencoder(_ context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	model, err := r.open(o, b)
	if err != nil {
		return nil, err
	}
	values := nn.InitValues(model.VAE.Tree(), o.Seed).Under(diffusers.VAE)
	if !r.FromScratch {
		if values, err = model.Load(diffusers.VAE); err != nil {
			return nil, err
		}
	}
	dataset, err := r.dataset(o, false)
	if err != nil {
		return nil, err
	}
	objective := Autoencoder{VAE: model.VAE, KLWeight: r.KLWeight, Decoder: r.DecoderOnly, Batch: o.Batch, Resolution: r.Resolution}.Objective()
	return &Run{
		Options: o, Backend: b, Objective: objective, Components: []Component{{diffusers.VAE, model.VAE}},
		Trainable: values, Frozen: values, Dataset: dataset, OnStep: r.OnStep, Log: r.Log,
		Recipe: r, Networks: map[string]any{diffusers.VAE: model.VAE},
		Feed: func(batch *data.Batch) ([]*xla.Array, error) {
			a, err := xla.Put(b, batch.Pixels, xla.Batch, o.Batch, r.Resolution, r.Resolution, model.VAE.InChannels)
			return []*xla.Array{a}, err
		},
		Finish: func(trained nn.Values) error {
			tree := model.VAE.Tree().Under(diffusers.VAE)
			return diffusers.SaveComponent(o.OutputDir, diffusers.VAE, model.VAE, tree, nn.Merge(values, trained), "F32")
		},
	}, nil
}

// open checks the recipe and reads the model's configs.
func (r Recipe) open(o Options, b *xla.Backend) (*diffusers.Pipeline, error) {
	if err := errors.Join(r.Validate(), o.Validate()); err != nil {
		return nil, err
	}
	if err := checkOutput(o); err != nil {
		return nil, err // before anything takes long
	}
	if o.Batch%b.Devices() != 0 {
		return nil, fmt.Errorf("batch %d does not divide over %d devices: use a multiple of %d", o.Batch, b.Devices(), b.Devices())
	}
	model, err := diffusers.OpenWith(r.Model, r.Opening)
	if err != nil {
		return nil, err
	}
	if model.XL != nil {
		return nil, fmt.Errorf("%s is an SDXL model: supported for training are SD 1.x and 2.x", r.Model)
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

func (r Recipe) dataset(o Options, conditioning bool) (*data.Dataset, error) {
	columns := r.Columns
	columns.NeedConditioning = conditioning
	columns.Resolution, columns.BatchSize, columns.Seed = r.Resolution, o.Batch, o.Seed
	return data.Open(r.Data, columns)
}

// diffusion prepares a run with the diffusion loss.
func (r Recipe) diffusion(ctx context.Context, b *xla.Backend, o Options, model *diffusers.Pipeline, control *controlnet.Config, trainable, frozen nn.Values) (*Run, error) {
	d := Diffusion{
		Networks:         Networks{UNet: model.UNet, ControlNet: control, VAE: model.VAE, Text: model.Text, Noise: model.Noise, Compute: r.Compute},
		Sizes:            Sizes{Batch: o.Batch, Resolution: r.Resolution, Tokens: model.Tokenizer.MaxLength()},
		CachedLatents:    r.CacheLatents,
		TrainTextEncoder: r.TrainTextEncoder,
		Loss:             r.Loss,
	}
	dataset, err := r.dataset(o, control != nil)
	if err != nil {
		return nil, err
	}
	feed := DiffusionFeed{Backend: b, Diffusion: d, Tokenizer: model.Tokenizer, Dropout: r.ProportionEmpty, Seed: o.Seed}
	if r.CacheLatents {
		if feed.Moments, err = EncodeDataset(ctx, b, model.VAE, frozen, dataset, r.Resolution, o.Batch, r.OnEncode); err != nil {
			return nil, err
		}
	}
	return &Run{
		Options: o, Backend: b, Objective: d.Objective(), Trainable: trainable, Frozen: frozen, Dataset: dataset,
		Feed: feed.Put, OnStep: r.OnStep, Log: r.Log, Recipe: r,
		Networks: map[string]any{diffusers.UNet: model.UNet, diffusers.VAE: model.VAE, diffusers.TextEncoder: model.Text, "scheduler": model.Noise},
	}, nil
}
