package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/train"
	"limner/xla"
)

// trainCmd holds what can be trained.
type trainCmd struct {
	ControlNet  trainControlNetCmd  `cmd:"" name:"controlnet" help:"Train a ControlNet for a frozen Stable Diffusion model."`
	TextToImage trainTextToImageCmd `cmd:"" name:"text-to-image" help:"Train the UNet of a Stable Diffusion model, from where it is or from scratch."`
	VAE         trainVAECmd         `cmd:"" name:"vae" help:"Train the VAE of a Stable Diffusion model."`
}

// trainFlags are the flags of every training, under the names of diffusers' scripts.
type trainFlags struct {
	Model     string   `name:"pretrained-model-name-or-path" aliases:"model" required:"" placeholder:"MODEL" help:"Stable Diffusion 1.x or 2.x model: a folder in diffusers' layout, a single file, or org/name[@revision] on the Hub. --model is the same."`
	Data      []string `name:"train-data-dir" required:"" placeholder:"DIR" help:"Folder of parquet files (or a parquet file) with images and captions; may be given several times."`
	OutputDir string   `required:"" placeholder:"DIR" help:"Folder for checkpoints, metrics.jsonl and the result."`

	Resolution      int    `default:"512" help:"Side of the training images in pixels; others are resized and cropped."`
	TrainBatchSize  int    `default:"4" help:"Images of a step per device."`
	GlobalBatchSize int    `placeholder:"N" help:"Images of a step over all devices, instead of --train_batch_size."`
	MaxTrainSteps   int    `placeholder:"N" help:"Optimizer steps; overrides --num_train_epochs."`
	NumTrainEpochs  int    `default:"1" help:"Passes over the dataset."`
	Seed            uint64 `default:"0" help:"Of everything random."`
	FromScratch     bool   `help:"Start the trained network from random weights of the same structure."`

	LearningRate    float64 `default:"5e-6" help:"Of AdamW, after warm-up."`
	LRScheduler     string  `name:"lr-scheduler" default:"constant" help:"constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial or piecewise_constant."`
	LRWarmupSteps   int     `name:"lr-warmup-steps" default:"500" help:"Steps in which the learning rate rises from 0; not with constant."`
	LRNumCycles     float64 `name:"lr-num-cycles" default:"1" help:"Of cosine_with_restarts."`
	LRPower         float64 `name:"lr-power" default:"1" help:"Of polynomial."`
	StepRules       string  `placeholder:"RULES" help:"Of piecewise_constant: 1:10,0.1:20,0.01 for the whole rate before step 10, and so on."`
	AdamBeta1       float64 `name:"adam-beta1" default:"0.9" help:"Decay of AdamW's first moment."`
	AdamBeta2       float64 `name:"adam-beta2" default:"0.999" help:"Decay of AdamW's second moment."`
	AdamWeightDecay float64 `default:"0.01" help:"Of AdamW."`
	AdamEpsilon     float64 `default:"1e-8" help:"Of AdamW."`
	MaxGradNorm     float64 `default:"1" help:"Global norm that gradients are clipped to; 0 for no clipping."`
	UseEMA          bool    `name:"use-ema" help:"Keep an average of the weights, and publish that."`
	EMADecay        float64 `name:"ema-decay" default:"0.9999" help:"Largest decay of the average."`
	MixedPrecision  string  `default:"no" enum:"no,bf16" help:"Compute in float32 (no) or bfloat16 (bf16). Weights stay in float32."`

	CheckpointingSteps    int    `default:"500" help:"Steps between checkpoints."`
	CheckpointsTotalLimit int    `placeholder:"N" help:"Checkpoints to keep; without it, all."`
	ResumeFromCheckpoint  string `placeholder:"NAME" help:"latest, or the name of a checkpoint in the output folder."`

	ImageColumn             string `default:"image" help:"Column of the images."`
	ConditioningImageColumn string `default:"conditioning_image" help:"Column of the conditioning images."`
	CaptionColumn           string `default:"text" help:"Column of the captions."`
	DataloaderNumWorkers    int    `placeholder:"N" help:"Goroutines that decode images; without it, one for each core."`

	backendFlags
}

// cacheFlags are the flags of trainings that see images through the VAE.
type cacheFlags struct {
	CacheLatents           bool    `help:"Encode every image once before training; takes host memory for all latents."`
	ProportionEmptyPrompts float64 `default:"0" help:"Share of captions replaced by the empty one, which guidance needs."`
}

type trainControlNetCmd struct {
	trainFlags
	cacheFlags
	ControlNet        string `name:"controlnet-model-name-or-path" aliases:"controlnet" placeholder:"MODEL" help:"ControlNet to go on from: a folder, a single file, or org/name on the Hub; without it, a copy of the UNet's encoder."`
	EmbeddingChannels []int  `name:"conditioning-embedding-out-channels" placeholder:"N,…" help:"Widths of a new ControlNet's conditioning embedding (default 16,32,96,256)."`
}

// Help shows one working example.
func (trainControlNetCmd) Help() string {
	return `Example:
  limner train controlnet --pretrained_model_name_or_path sd15 --train_data_dir data \
    --output_dir run --resolution 512 --train_batch_size 4 --learning_rate 1e-5 --max_train_steps 10000
The result is a ControlNet in diffusers' layout in the output folder. Ctrl-C saves a checkpoint; the same command with
--resume_from_checkpoint latest goes on to the same bits.`
}

func (c trainControlNetCmd) Run(ctx context.Context) error {
	return c.run(ctx, func(ctx context.Context, b *xla.Backend, o train.Options, r train.Recipe) (*train.Run, error) {
		r.EmbeddingChannels = c.EmbeddingChannels
		if c.ControlNet != "" {
			var err error
			if r.ControlNet, err = locate(ctx, c.ControlNet, ""); err != nil {
				return nil, err
			}
		}
		c.cacheFlags.apply(&r)
		return train.NewControlNet(ctx, b, o, r)
	})
}

type trainTextToImageCmd struct {
	trainFlags
	cacheFlags
	TrainTextEncoder bool `help:"Train the text encoder too."`
}

// Help shows one working example.
func (trainTextToImageCmd) Help() string {
	return `Example:
  limner train text-to-image --pretrained_model_name_or_path sd15 --train_data_dir data \
    --output_dir run --resolution 512 --learning_rate 1e-5 --max_train_steps 5000 --use_ema
The result is a whole model in diffusers' layout in the output folder.`
}

func (c trainTextToImageCmd) Run(ctx context.Context) error {
	return c.run(ctx, func(ctx context.Context, b *xla.Backend, o train.Options, r train.Recipe) (*train.Run, error) {
		r.TrainTextEncoder = c.TrainTextEncoder
		c.cacheFlags.apply(&r)
		return train.NewTextToImage(ctx, b, o, r)
	})
}

type trainVAECmd struct {
	trainFlags
	TrainDecoderOnly bool    `help:"Train the decoder and leave the latents, and so the UNet, as they are."`
	KLWeight         float64 `name:"kl-weight" default:"1e-6" help:"Weight of the posterior's divergence from a standard normal."`
}

// Help shows one working example.
func (trainVAECmd) Help() string {
	return `Example:
  limner train vae --pretrained_model_name_or_path sd15 --train_data_dir data --output_dir run \
    --resolution 256 --learning_rate 1e-4 --max_train_steps 5000
The result is a VAE in diffusers' layout in the output folder.`
}

func (c trainVAECmd) Run(ctx context.Context) error {
	return c.run(ctx, func(ctx context.Context, b *xla.Backend, o train.Options, r train.Recipe) (*train.Run, error) {
		r.KLWeight, r.DecoderOnly = c.KLWeight, c.TrainDecoderOnly
		return train.NewAutoencoder(ctx, b, o, r)
	})
}

func (f cacheFlags) apply(r *train.Recipe) {
	r.CacheLatents, r.ProportionEmpty = f.CacheLatents, f.ProportionEmptyPrompts
}

// prepareRun makes a run from flags.
type prepareRun func(context.Context, *xla.Backend, train.Options, train.Recipe) (*train.Run, error)

// run trains what prepare makes. A signal at any moment ends it with train.ErrInterrupted.
func (f trainFlags) run(ctx context.Context, prepare prepareRun) error {
	quiet := context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr, "\nlimner: stopping when the step or the compiling under way is done, and saving; a second signal leaves at once")
	})
	defer quiet()
	err := f.train(ctx, prepare)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w before the first step: nothing was lost, the same command starts again", train.ErrInterrupted)
	}
	return err
}

// train opens the devices and trains what prepare makes.
func (f trainFlags) train(ctx context.Context, prepare prepareRun) error {
	b, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	o, r := f.options(b.Devices()), f.recipe()
	if err := errors.Join(o.Validate(), r.Validate()); err != nil {
		return usageError{err}
	}
	if r.Model, err = locate(ctx, r.Model, ""); err != nil {
		return err
	}
	steps := newProgress(os.Stderr, "training")
	cached := newProgress(os.Stderr, "encoding images")
	r.Log = besideBar{func() *progress { return steps }}
	r.OnStep = func(p train.Progress) { steps.Step(p.Step, p.Steps, stepFields(p)) }
	r.OnEncode = func(done, total int) { cached.Step(done, total, "") }
	run, err := prepare(ctx, b, o, r)
	if err != nil {
		return configError{err} // the model, the dataset and the flags do not fit each other
	}
	defer run.Close()
	fmt.Fprintf(os.Stderr, "global batch %d, per-device batch %d, devices %d\n", o.Batch, o.Batch/b.Devices(), b.Devices())
	err = errors.Join(run.Do(ctx), steps.Close())
	var config train.ConfigError
	if errors.As(err, &config) {
		return configError{err}
	} else if err != nil {
		return err
	}
	fmt.Println(f.OutputDir)
	return nil
}

// stepFields is what a step's line says besides its number.
func stepFields(p train.Progress) string {
	return fmt.Sprintf("images %d loss %.4f lr %.2g images_per_s %.1f", p.Images, p.Loss, p.LearningRate, p.ImagesPerSecond)
}

func (f trainFlags) options(devices int) train.Options {
	o := train.DefaultOptions()
	o.OutputDir, o.Seed = f.OutputDir, f.Seed
	o.Batch = f.GlobalBatchSize
	if o.Batch == 0 {
		o.Batch = f.TrainBatchSize * devices
	}
	o.MaxTrainSteps, o.NumTrainEpochs = f.MaxTrainSteps, f.NumTrainEpochs
	o.LearningRate = f.LearningRate
	o.Schedule = train.Schedule{Name: f.LRScheduler, Warmup: f.LRWarmupSteps, Cycles: f.LRNumCycles, Power: f.LRPower, StepRules: f.StepRules}
	o.Optimizer = train.AdamW{Beta1: f.AdamBeta1, Beta2: f.AdamBeta2, WeightDecay: f.AdamWeightDecay, Epsilon: f.AdamEpsilon, MaxGradNorm: f.MaxGradNorm}
	if f.UseEMA {
		ema := train.DefaultEMA()
		ema.Decay = f.EMADecay
		o.EMA = &ema
	}
	o.CheckpointingSteps, o.CheckpointsTotalLimit, o.ResumeFromCheckpoint = f.CheckpointingSteps, f.CheckpointsTotalLimit, f.ResumeFromCheckpoint
	return o
}

func (f trainFlags) recipe() train.Recipe {
	columns := data.DefaultOptions()
	columns.ImageColumn, columns.ConditioningImageColumn, columns.CaptionColumn = f.ImageColumn, f.ConditioningImageColumn, f.CaptionColumn
	if f.DataloaderNumWorkers > 0 {
		columns.Workers = f.DataloaderNumWorkers
	}
	r := train.Recipe{
		Model: f.Model, Data: f.Data, Columns: columns, Resolution: f.Resolution, FromScratch: f.FromScratch,
		Compute: dtypes.Float32, Log: os.Stderr,
	}
	if f.MixedPrecision == "bf16" {
		r.Compute = dtypes.BFloat16
	}
	return r
}
