package train

import (
	"errors"
	"fmt"

	"limner/internal/settings"
	"limner/train/folder"
	"limner/train/optim"
)

// Options describe a run, whatever it trains: flags of limner train, under diffusers' names. The tags say what a flag
// is to the command line and, by resume, what becomes of a run that goes on with another value: see folder.Record.
type Options struct {
	OutputDir             string         `json:"output_dir" group:"output" required:"" placeholder:"DIR" help:"Folder for checkpoints, metrics.jsonl and the result." resume:"free"`
	CheckpointingSteps    int            `json:"checkpointing_steps" group:"output" default:"500" help:"Steps between checkpoints." resume:"free"`
	CheckpointsTotalLimit int            `json:"checkpoints_total_limit" group:"output" placeholder:"N" help:"Checkpoints to keep; without it, all." resume:"free"`
	ResumeFromCheckpoint  string         `json:"resume_from_checkpoint" group:"output" placeholder:"NAME" help:"latest, or the name of a checkpoint in the output folder." resume:"free"`
	Batch                 int            `json:"global_batch_size" name:"global-batch-size" group:"steps" placeholder:"N" help:"Images of a step over all devices, instead of --train_batch_size." resume:"same"`
	Accumulation          int            `json:"gradient_accumulation_steps" name:"gradient-accumulation-steps" group:"steps" default:"1" help:"Batches of an optimizer step, one after another: their gradients are those of one large batch." resume:"same"`
	MaxTrainSteps         int            `json:"max_train_steps" group:"steps" placeholder:"N" help:"Optimizer steps; overrides --num_train_epochs." resume:"free"`
	MaxTrainImages        int            `json:"max_train_images" group:"steps" placeholder:"N" help:"Images to see, rounded up to whole steps, instead of --max_train_steps or --num_train_epochs." resume:"free"`
	NumTrainEpochs        int            `json:"num_train_epochs" group:"steps" default:"1" help:"Passes over the dataset." resume:"free"`
	LearningRate          float64        `json:"learning_rate" group:"steps" default:"${rate=5e-6}" help:"After warm-up." resume:"same"`
	Schedule              optim.Schedule `json:"schedule" group:"steps" embed:""`
	Seed                  uint64         `json:"seed" group:"steps" type:"seed" default:"0" help:"Of everything random; -1 draws one, which is printed and recorded." resume:"same"`
	GradientCheckpointing bool           `json:"gradient_checkpointing" group:"memory" help:"Keep only the outputs of blocks for the gradient and compute the rest once more: less memory, a third more time. A run whose step does not fit the devices otherwise does so by itself." resume:"reorder"`
	FSDP                  bool           `json:"fsdp" name:"fsdp" group:"memory" help:"Divide the parameters over the devices; moments and averages are in any case." resume:"reorder"`
	// bytes of a device; 0: all that there are
	MaxDeviceMemory int64           `json:"max_device_memory" kong:"-" resume:"free"`
	Optimizer       optim.Optimizer `json:"optimizer" group:"optimizer" embed:""`
	EMA             *optim.EMA      `json:"ema" group:"optimizer" embed:""` // nil keeps no average
}

// DefaultOptions holds the defaults of diffusers' train_controlnet.py. It has no batch: how many images fit depends on
// the devices.
func DefaultOptions() Options { return settings.Default[Options]() }

// mostImages is more than anybody trains on in a step: numbers above it are mistakes, and they are not multiplied with
// others.
const mostImages = 1 << 20

// mostSteps is more than any run has of steps, images and epochs, and small enough to be multiplied with a dataset's
// batches.
const mostSteps = 1_000_000_000_000

// Validate reports every option out of range.
func (o Options) Validate() error {
	errs := []error{o.Schedule.Validate(), o.Optimizer.Validate()}
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.OutputDir == "" {
		report("output_dir: give a folder")
	}
	if o.Batch < 1 || o.Batch > mostImages {
		report("train_batch_size, global_batch_size: got %d, want 1 to %d", o.Batch, mostImages)
	}
	if o.Accumulation < 1 || o.Accumulation > mostImages {
		report("gradient_accumulation_steps: got %d, want 1 to %d", o.Accumulation, mostImages)
	}
	switch steps, images := o.MaxTrainSteps, o.MaxTrainImages; {
	case steps > 0 && images > 0:
		report("max_train_steps, max_train_images: got %d and %d, want one of them", steps, images)
	case steps < 0 || images < 0 || steps == 0 && images == 0 && o.NumTrainEpochs < 1:
		report("max_train_steps, max_train_images, num_train_epochs: got %d, %d and %d, want one of them above 0",
			steps, images, o.NumTrainEpochs)
	}
	for _, length := range []struct {
		name  string
		value int
	}{
		{"max_train_steps", o.MaxTrainSteps}, {"max_train_images", o.MaxTrainImages},
		{"num_train_epochs", o.NumTrainEpochs},
	} {
		if length.value > mostSteps {
			report("%s: got %d, want at most %d", length.name, length.value, mostSteps)
		}
	}
	if !(o.LearningRate > 0) {
		report("learning_rate: got %g, want above 0", o.LearningRate)
	}
	if o.MaxDeviceMemory < 0 {
		report("max_device_memory: got %g GB, want at least 0", float64(o.MaxDeviceMemory)/1e9)
	}
	if o.EMA != nil {
		errs = append(errs, o.EMA.Validate())
	}
	if o.CheckpointingSteps < 1 {
		report("checkpointing_steps: got %d, want at least 1", o.CheckpointingSteps)
	}
	if o.CheckpointsTotalLimit < 0 {
		report("checkpoints_total_limit: got %d, want at least 0", o.CheckpointsTotalLimit)
	}
	return errors.Join(errs...)
}

// images of an optimizer step.
func (o Options) images() int { return o.Batch * o.Accumulation }

// steps of the whole run, for a dataset of so many batches.
func (o Options) steps(batches int) int {
	switch {
	case o.MaxTrainSteps > 0:
		return o.MaxTrainSteps
	case o.MaxTrainImages > 0:
		return (o.MaxTrainImages + o.images() - 1) / o.images()
	}
	return o.NumTrainEpochs * (batches / o.Accumulation)
}

// batches says how an optimizer step's images are divided.
func (o Options) batches(devices int) string {
	text := fmt.Sprintf("global batch %d, per-device batch %d, devices %d", o.Batch, o.Batch/devices, devices)
	if o.Accumulation > 1 {
		text += fmt.Sprintf(", accumulation %d, %d images a step", o.Accumulation, o.images())
	}
	return text
}

// output is the run's folder.
func (o Options) output() folder.Output {
	return folder.Output{
		Dir: o.OutputDir, ResumeFromCheckpoint: o.ResumeFromCheckpoint, Every: o.CheckpointingSteps,
		Keep: o.CheckpointsTotalLimit,
	}
}
