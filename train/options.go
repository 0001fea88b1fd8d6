package train

import (
	"errors"
	"fmt"

	"limner/internal/units"
	"limner/train/optim"
)

// Options describe a run, whatever it trains. The tags are the names of diffusers' flags.
type Options struct {
	OutputDir             string          `json:"output_dir"`
	Seed                  uint64          `json:"seed"`
	Batch                 int             `json:"global_batch_size"`           // images on all devices at a time
	Accumulation          int             `json:"gradient_accumulation_steps"` // such batches of an optimizer step
	MaxTrainSteps         int             `json:"max_train_steps"`             // optimizer steps; 0 counts images or epochs instead
	MaxTrainImages        int             `json:"max_train_images"`            // rounded up to whole steps; 0 counts epochs instead
	NumTrainEpochs        int             `json:"num_train_epochs"`
	LearningRate          float64         `json:"learning_rate"`
	Schedule              optim.Schedule  `json:"schedule"`
	FSDP                  bool            `json:"fsdp"`                   // divide the parameters over the devices, not only what is kept beside them
	GradientCheckpointing bool            `json:"gradient_checkpointing"` // compute what is in blocks once more instead of keeping it
	MaxDeviceMemory       int64           `json:"max_device_memory"`      // bytes that the step may take of a device; 0: all that there is
	Optimizer             optim.Optimizer `json:"optimizer"`
	EMA                   *optim.EMA      `json:"ema"` // nil keeps no average
	CheckpointingSteps    int             `json:"checkpointing_steps"`
	CheckpointsTotalLimit int             `json:"checkpoints_total_limit"` // 0 keeps all
	ResumeFromCheckpoint  string          `json:"resume_from_checkpoint"`  // "latest", the name of a checkpoint, or nothing
}

// DefaultOptions holds the defaults of diffusers' train_controlnet.py.
func DefaultOptions() Options {
	return Options{
		Batch: 4, Accumulation: 1, NumTrainEpochs: 1, LearningRate: 5e-6, Schedule: optim.Schedule{Name: "constant", Warmup: 500},
		Optimizer: optim.DefaultOptimizer(), CheckpointingSteps: 500,
	}
}

// mostImages is more than anybody trains on in a step: numbers above it are mistakes, and they are not multiplied with others.
const mostImages = 1 << 20

// Validate reports every option out of range.
func (o Options) Validate() error {
	errs := []error{o.Schedule.Validate(), o.Optimizer.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.OutputDir == "" {
		bad("output_dir: give a folder")
	}
	if o.Batch < 1 || o.Batch > mostImages {
		bad("train_batch_size, global_batch_size: got %d, want 1 to %d", o.Batch, mostImages)
	}
	if o.Accumulation < 1 || o.Accumulation > mostImages {
		bad("gradient_accumulation_steps: got %d, want 1 to %d", o.Accumulation, mostImages)
	}
	switch steps, images := o.MaxTrainSteps, o.MaxTrainImages; {
	case steps > 0 && images > 0:
		bad("max_train_steps, max_train_images: got %d and %d, want one of them", steps, images)
	case steps < 0 || images < 0 || steps == 0 && images == 0 && o.NumTrainEpochs < 1:
		bad("max_train_steps, max_train_images, num_train_epochs: got %d, %d and %d, want one of them above 0", steps, images, o.NumTrainEpochs)
	}
	if !(o.LearningRate > 0) {
		bad("learning_rate: got %g, want above 0", o.LearningRate)
	}
	if o.MaxDeviceMemory < 0 {
		bad("max_device_memory: got %s, want at least 0", units.Bytes(o.MaxDeviceMemory))
	}
	if o.EMA != nil {
		errs = append(errs, o.EMA.Validate())
	}
	if o.CheckpointingSteps < 1 {
		bad("checkpointing_steps: got %d, want at least 1", o.CheckpointingSteps)
	}
	if o.CheckpointsTotalLimit < 0 {
		bad("checkpoints_total_limit: got %d, want at least 0", o.CheckpointsTotalLimit)
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
