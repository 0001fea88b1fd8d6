package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/alecthomas/kong"
	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/internal/refusal"
	"limner/models/diffusers"
	"limner/train"
	"limner/train/optim"
	"limner/train/watch"
	"limner/xla"
)

// trainCmd holds what can be trained.
type trainCmd struct {
	ControlNet       trainControlNetCmd       `cmd:"" name:"controlnet" set:"rate=5e-6" help:"Train a ControlNet for a frozen Stable Diffusion model."`
	TextToImage      trainTextToImageCmd      `cmd:"" name:"text-to-image" set:"rate=1e-5" help:"Train the UNet of a Stable Diffusion model, from where it is or from scratch."`
	LoRA             trainLoRACmd             `cmd:"" name:"lora" set:"rate=1e-4" help:"Train a LoRA for a frozen Stable Diffusion model."`
	DreamBooth       trainDreamBoothCmd       `cmd:"" name:"dreambooth" set:"rate=5e-6" help:"Teach a Stable Diffusion model what a few images show."`
	TextualInversion trainTextualInversionCmd `cmd:"" name:"textual-inversion" set:"rate=1e-4" help:"Learn embeddings of new tokens for a frozen Stable Diffusion model."`
	VAE              trainVAECmd              `cmd:"" name:"vae" set:"rate=5e-6" help:"Train the VAE of a Stable Diffusion model."`
}

// trainFlags are the flags of every training, under the names of diffusers' scripts.
type trainFlags struct {
	Recipe recipeFile `placeholder:"FILE" help:"YAML file with flags under their names, such as the recipe.yaml of an earlier run; flags given here come before it."`
	diffusers.ModelOptions
	Data      []string `name:"train-data-dir" aliases:"instance-data-dir" required:"" placeholder:"DIR" help:"Folder of parquet files (or a parquet file), or of images with metadata.jsonl or .txt captions; may be given several times."`
	OutputDir string   `required:"" placeholder:"DIR" help:"Folder for checkpoints, metrics.jsonl and the result."`

	Resolution      int    `default:"512" help:"Side of the training images in pixels; others are resized and cropped."`
	TrainBatchSize  int    `default:"4" help:"Images of a step per device."`
	GlobalBatchSize int    `placeholder:"N" help:"Images of a step over all devices, instead of --train_batch_size."`
	MaxTrainSteps   int    `placeholder:"N" help:"Optimizer steps; overrides --num_train_epochs."`
	NumTrainEpochs  int    `default:"1" help:"Passes over the dataset."`
	Seed            uint64 `default:"0" help:"Of everything random."`
	FromScratch     bool   `help:"Start the trained network from random weights of the same structure."`

	LearningRate    float64 `default:"${rate}" help:"After warm-up."`
	LRScheduler     string  `name:"lr-scheduler" default:"constant" help:"constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial or piecewise_constant."`
	LRWarmupSteps   int     `name:"lr-warmup-steps" default:"500" help:"Steps in which the learning rate rises from 0; not with constant."`
	LRNumCycles     float64 `name:"lr-num-cycles" default:"1" help:"Of cosine_with_restarts."`
	LRPower         float64 `name:"lr-power" default:"1" help:"Of polynomial."`
	StepRules       string  `placeholder:"RULES" help:"Of piecewise_constant: 1:10,0.1:20,0.01 for the whole rate before step 10, and so on."`
	AdamBeta1       float64 `name:"adam-beta1" default:"0.9" help:"Decay of AdamW's first moment."`
	AdamBeta2       float64 `name:"adam-beta2" default:"0.999" help:"Decay of AdamW's second moment."`
	AdamWeightDecay float64 `default:"0.01" help:"Of any optimizer."`
	AdamEpsilon     float64 `default:"1e-8" help:"Of AdamW."`
	MaxGradNorm     float64 `default:"1" help:"Global norm that gradients are clipped to; 0 for no clipping."`
	UseEMA          bool    `name:"use-ema" help:"Keep an average of the weights, and publish that."`
	EMADecay        float64 `name:"ema-decay" default:"0.9999" help:"Largest decay of the average."`
	MixedPrecision  string  `default:"no" enum:"no,bf16" help:"Compute in float32 (no) or bfloat16 (bf16). Weights stay in float32."`

	optimizeFlags

	CheckpointingSteps    int    `default:"500" help:"Steps between checkpoints."`
	CheckpointsTotalLimit int    `placeholder:"N" help:"Checkpoints to keep; without it, all."`
	ResumeFromCheckpoint  string `placeholder:"NAME" help:"latest, or the name of a checkpoint in the output folder."`

	ImageColumn             string `default:"image" help:"Column of the images."`
	ConditioningImageColumn string `default:"conditioning_image" help:"Column of the conditioning images."`
	CaptionColumn           string `default:"text" help:"Column of the captions."`
	CenterCrop              bool   `default:"true" negatable:"" help:"Crop images of other shapes at their centre."`
	Background              string `placeholder:"COLOUR" help:"Colour behind pictures that are not opaque: a CSS name or #RRGGBB. Without it alpha is dropped, as by Pillow."`
	RandomFlip              bool   `help:"Turn every other image around, its conditioning image and mask too."`
	DataloaderNumWorkers    int    `placeholder:"N" help:"Goroutines that decode images; without it, one for each core."`

	watchFlags
	executableFlags
	runFlags
}

// trainer is a command that trains.
type trainer interface {
	flags() trainFlags
	// apply puts what the command's own flags say into a recipe. It fails where they do not go together.
	apply(*train.Recipe) error
}

func (f trainFlags) flags() trainFlags { return f }

// trainSettings are what the flags of a training say. The error lists everything about them that is out of range. A training that is planned
// needs no data and no place.
func trainSettings(c trainer, devices int, planned bool) (train.Options, train.Recipe, error) {
	o, r := c.flags().options(devices), c.flags().recipe()
	err := c.apply(&r)
	if planned {
		r.Planned, r.Prior, o.OutputDir = true, nil, "plan"
	}
	_, control := c.(trainControlNetCmd)
	r.Columns.NeedConditioning = control
	return o, r, errors.Join(o.Validate(), r.Validate(), r.Watch.Validation.Validate(control), err)
}

// prepareRun makes a run from flags.
type prepareRun func(context.Context, *xla.Backend, train.Options, train.Recipe) (*train.Run, error)

// runTraining trains what prepare makes of the command's settings. A signal at any moment ends it with train.ErrInterrupted.
func runTraining(ctx context.Context, command *kong.Context, c trainer, prepare prepareRun) error {
	p := planOf(command)
	if _, _, err := trainSettings(c, 1, p != nil); err != nil { // before devices, which may have to be installed or taken
		return usageError{c.flags().Recipe.place(command, err)}
	}
	if p != nil {
		return p.train(ctx, c, prepare)
	}
	quiet := context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr, "\nlimner: stopping when the step under way is done, and saving; a second signal leaves at once")
	})
	defer quiet()
	err := trainOnDevices(ctx, command, c, prepare)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w before the first step: nothing was lost, the same command starts again", train.ErrInterrupted)
	}
	return err
}

// trainOnDevices opens the devices and trains what prepare makes. What can be refused without the model is refused before it is looked for.
func trainOnDevices(ctx context.Context, command *kong.Context, c trainer, prepare prepareRun) error {
	f := c.flags()
	devices := f.devices(f.Executable...)
	devices.Slice = true
	b, err := xla.Open(ctx, devices)
	if err != nil {
		return err
	}
	defer b.Close()
	o, r, err := trainSettings(c, b.Devices(), false)
	if err != nil {
		return err
	}
	if r.Text, err = resolvedRecipe(command); err != nil {
		return err
	}
	if err := r.Preflight(b, o); err != nil {
		return configError{err}
	}
	r.Model, err = findModel(ctx, f.ModelOptions)
	if err := b.Together(err); err != nil {
		return err
	}
	steps := newProgress(os.Stderr, "training")
	cached := newProgress(os.Stderr, "encoding images")
	r.Log = besideBar{func() *progress { return steps }}
	r.OnStep = func(p watch.Progress) { steps.Step(p.Step, p.Steps, stepFields(p)) }
	r.OnEncode = func(done, total int) { cached.Step(done, total, "") }
	if p := b.Process(); !p.Alone() {
		from, to := b.Rows(o.Batch)
		fmt.Fprintf(os.Stderr, "process %d of %d, counted from 0: %d of %d devices, rows %d to %d of each batch of %d\n",
			p.Index, p.Count, b.Own(), b.Devices(), from, to-1, o.Batch)
		if !p.Leads() {
			r.Log, r.OnStep, r.OnEncode = nil, nil, func(int, int) {} // the first process speaks for all
		}
	}
	run, err := prepare(b.Bound(ctx), b, o, r)
	if err := b.Together(err); err != nil {
		return configError{err} // the model, the dataset and the flags do not fit each other
	}
	defer run.Close()
	err = errors.Join(run.Do(ctx), steps.Close())
	if errors.As(err, new(refusal.Error)) {
		return configError{err}
	} else if err != nil {
		return err
	}
	if b.Process().Leads() {
		fmt.Println(f.OutputDir)
	}
	return nil
}

// stepFields is what a step's line says besides its number.
func stepFields(p watch.Progress) string {
	return fmt.Sprintf("loss %.4f lr %.2g images_per_s %.1f images %d",
		p.Loss, p.LearningRate, p.ImagesPerSecond, p.Images)
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
	o.Schedule = optim.Schedule{Name: f.LRScheduler, Warmup: f.LRWarmupSteps, Cycles: f.LRNumCycles, Power: f.LRPower, StepRules: f.StepRules}
	o.Optimizer.AdamW = optim.AdamW{Beta1: f.AdamBeta1, Beta2: f.AdamBeta2, Epsilon: f.AdamEpsilon}
	o.Optimizer.WeightDecay, o.Optimizer.MaxGradNorm = f.AdamWeightDecay, f.MaxGradNorm
	f.optimizeFlags.apply(&o)
	if f.UseEMA {
		ema := optim.DefaultEMA()
		ema.Decay = f.EMADecay
		o.EMA = &ema
	}
	o.CheckpointingSteps, o.CheckpointsTotalLimit, o.ResumeFromCheckpoint = f.CheckpointingSteps, f.CheckpointsTotalLimit, f.ResumeFromCheckpoint
	return o
}

func (f trainFlags) recipe() train.Recipe {
	columns := data.DefaultOptions()
	columns.ImageColumn, columns.ConditioningImageColumn, columns.CaptionColumn = f.ImageColumn, f.ConditioningImageColumn, f.CaptionColumn
	columns.RandomCrop, columns.RandomFlip, columns.Background = !f.CenterCrop, f.RandomFlip, f.Background
	if f.DataloaderNumWorkers > 0 {
		columns.Workers = f.DataloaderNumWorkers
	}
	r := train.Recipe{
		Model: f.Model, Opening: f.ModelOptions.Opening(), Data: f.Data, Columns: columns, Resolution: f.Resolution, FromScratch: f.FromScratch,
		Compute: dtypes.Float32, Log: os.Stderr, Watch: f.watch(f.Backend),
	}
	if f.MixedPrecision == "bf16" {
		r.Compute = dtypes.BFloat16
	}
	return r
}
