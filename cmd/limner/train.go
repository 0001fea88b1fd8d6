package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/internal/refusal"
	"limner/train"
	"limner/train/optim"
	"limner/train/watch"
	"limner/xla"
)

// trainFlags are the flags of every training: the settings of packages train, optim and data, whose fields are the
// flags, and shorthands. It is an unexported embedded struct, as diffusionFlags is: through such a field kong cannot
// call the Validate methods of what it holds, which must wait until settings has written the shorthands out.
type trainFlags struct {
	Recipe recipeFile   `placeholder:"FILE" help:"YAML file with flags under their names, such as the recipe.yaml of an earlier run; flags given here come before it."`
	Basics train.Basics `embed:""`
	shorthands
	Options train.Options `embed:""`
	Watch   watch.Options `embed:""`
	executableFlags
	runFlags
}

// shorthands are flags that stand for settings in the terms of diffusers' scripts, or in those of the devices.
type shorthands struct {
	TrainBatchSize int     `group:"steps" default:"4" help:"Images of a step per device."`
	ScaleLR        bool    `name:"scale-lr" group:"steps" help:"Multiply the learning rate by the images of an optimizer step, over all devices."`
	CenterCrop     bool    `group:"data" default:"true" negatable:"" help:"Crop images of other shapes at their centre."`
	MixedPrecision string  `group:"memory" default:"no" enum:"no,fp16,bf16" help:"Compute in float32 (no) or bfloat16 (bf16, which fp16 means too). Weights stay in float32."`
	DeviceMemoryGB float64 `name:"max-device-memory" group:"memory" placeholder:"GB" help:"GB that the step may take of each device, such as a GPU that others use; without it, all that there are."`
	Use8bitAdam    bool    `name:"use-8bit-adam" group:"optimizer" help:"The same as --adam_moments_dtype 8bit."`
	UseEMA         bool    `name:"use-ema" group:"optimizer" help:"Keep an average of the weights, and publish that."`
	reporting
}

// diffusionFlags are those of trainings with the diffusion loss.
type diffusionFlags struct {
	Diffusion train.Diffusion `embed:""`
}

// tpuPeak is the bfloat16 peak of a TPU v4's chip in TFLOP/s.
const tpuPeak = 275

// mostMemory is more than any device has, in bytes.
const mostMemory = 1e18

// settings are what the flags say on so many devices, with the shorthands written out.
func (f trainFlags) settings(devices int) (train.Options, train.Recipe) {
	o, r := f.Options, train.Recipe{Basics: f.Basics, Watch: f.Watch, Compute: dtypes.Float32, Log: os.Stderr}
	if o.Batch == 0 {
		o.Batch = f.TrainBatchSize * devices
	}
	if f.ScaleLR {
		o.LearningRate *= float64(o.Batch * o.Accumulation)
	}
	if f.Use8bitAdam {
		o.Optimizer.Moments = optim.Moments8Bit
	}
	if !f.UseEMA {
		o.EMA = nil
	}
	o.MaxDeviceMemory = int64(max(-mostMemory, min(f.DeviceMemoryGB*1e9, mostMemory)))
	if f.MixedPrecision != "no" {
		r.Compute = dtypes.BFloat16
	}
	r.RandomCrop = !f.CenterCrop
	if f.ReportTo == "none" {
		r.Watch.LoggingDir = ""
	}
	if r.Watch.PeakTFLOPs == 0 && strings.EqualFold(f.Backend, "tpu") {
		r.Watch.PeakTFLOPs = tpuPeak
	}
	return o, r
}

// trainer is a command that trains.
type trainer interface {
	flags() trainFlags
	// apply puts the command's own settings into a recipe. It fails where they do not go together.
	apply(*train.Recipe) error
}

func (f trainFlags) flags() trainFlags { return f }

// trainSettings are what the flags of a training say. The error lists everything about them that is out of range. A
// training that is planned needs no data and no place.
func trainSettings(c trainer, devices int, planned bool) (train.Options, train.Recipe, error) {
	o, r := c.flags().settings(devices)
	err := c.apply(&r)
	if planned {
		r.Planned, r.Prior, o.OutputDir = true, nil, "plan"
	}
	_, control := c.(trainControlNetCmd)
	r.NeedConditioning = control
	if len(r.Data) > 0 && r.DatasetName != "" {
		err = errors.Join(err, errors.New("train_data_dir, dataset_name: got both, want one of them"))
	}
	return o, r, errors.Join(o.Validate(), r.Validate(), r.Watch.Validation.Validate(control), err)
}

// prepareRun makes a run from flags.
type prepareRun func(context.Context, *xla.Backend, train.Options, train.Recipe) (*train.Run, error)

// runTraining trains what prepare makes of the command's settings. A signal at any moment ends it with
// train.ErrInterrupted.
func runTraining(ctx context.Context, command *kong.Context, c trainer, prepare prepareRun) error {
	p := planOf(command)
	// This comes before devices are opened, whose plugin may have to be installed.
	if _, _, err := trainSettings(c, 1, p != nil); err != nil {
		return usageError{c.flags().Recipe.place(command, err)}
	}
	if p != nil {
		return p.train(ctx, c, prepare)
	}
	quiet := context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr, "\nlimner: stopping when the step under way is done, and saving; "+
			"a second signal leaves at once")
	})
	defer quiet()
	err := trainOnDevices(ctx, command, c, prepare)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w before the first step: nothing was lost, the same command starts again",
			train.ErrInterrupted)
	}
	return err
}

// trainOnDevices opens the devices and trains what prepare makes. What can be refused without the model is refused
// before it is looked for.
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
	if err := settleSeed(command, b, &o); err != nil {
		return err
	}
	if r.Text, err = resolvedRecipe(command); err != nil {
		return err
	}
	if r.DatasetName != "" {
		r.FindData = func() ([]string, error) {
			path, err := findDataset(ctx, r.DatasetName, r.Reading)
			return []string{path}, err
		}
	}
	if f.MixedPrecision == "fp16" {
		fmt.Fprintln(os.Stderr, "mixed_precision fp16: computing in bfloat16, "+
			"which has float32's range and needs no scaling of the loss")
	}
	if err := r.Preflight(b, o); err != nil {
		return refusal.Error{Err: err}
	}
	r.Model, err = findModel(ctx, f.Basics.ModelOptions)
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
		fmt.Fprintf(os.Stderr, "process %d of %d, counted from 0: %d of %d devices, "+
			"rows %d to %d of each batch of %d\n",
			p.Index, p.Count, b.Own(), b.Devices(), from, to-1, o.Batch)
		if !p.Leads() {
			r.Log, r.OnStep, r.OnEncode = nil, nil, func(int, int) {} // the first process speaks for all
		}
	}
	run, err := prepare(b.Bound(ctx), b, o, r)
	if err := b.Together(err); err != nil {
		return refusal.Error{Err: err} // the model, the dataset and the flags do not fit each other
	}
	defer run.Close()
	if err := errors.Join(run.Do(ctx), steps.Close()); err != nil {
		return err
	}
	if b.Process().Leads() {
		f.reporting.tell(os.Stderr, o.OutputDir, r.Watch.LoggingDir)
		fmt.Println(o.OutputDir)
	}
	return nil
}

// stepFields is what a step's line says besides its number.
func stepFields(p watch.Progress) string {
	return fmt.Sprintf("loss %.4f lr %.2g images_per_s %.1f images %d",
		p.Loss, p.LearningRate, p.ImagesPerSecond, p.Images)
}
