package train

import (
	"errors"
	"fmt"
)

// Options describe a run, whatever it trains. The tags are the names of diffusers' flags.
type Options struct {
	OutputDir             string   `json:"output_dir"`
	Seed                  uint64   `json:"seed"`
	Batch                 int      `json:"global_batch_size"` // images of a step, over all devices
	MaxTrainSteps         int      `json:"max_train_steps"`   // optimizer steps; 0 counts epochs instead
	NumTrainEpochs        int      `json:"num_train_epochs"`
	LearningRate          float64  `json:"learning_rate"`
	Schedule              Schedule `json:"schedule"`
	Optimizer             AdamW    `json:"optimizer"`
	EMA                   *EMA     `json:"ema"` // nil keeps no average
	CheckpointingSteps    int      `json:"checkpointing_steps"`
	CheckpointsTotalLimit int      `json:"checkpoints_total_limit"` // 0 keeps all
	ResumeFromCheckpoint  string   `json:"resume_from_checkpoint"`  // "latest", the name of a checkpoint, or nothing
}

// DefaultOptions holds the defaults of diffusers' train_controlnet.py.
func DefaultOptions() Options {
	return Options{
		Batch: 4, NumTrainEpochs: 1, LearningRate: 5e-6, Schedule: Schedule{Name: "constant", Warmup: 500},
		Optimizer: DefaultAdamW(), CheckpointingSteps: 500,
	}
}

// Validate reports every option out of range.
func (o Options) Validate() error {
	errs := []error{o.Schedule.Validate(), o.Optimizer.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.OutputDir == "" {
		bad("output_dir: give a folder")
	}
	if o.Batch < 1 {
		bad("train_batch_size: got %d, want at least 1", o.Batch)
	}
	if o.MaxTrainSteps < 0 || o.MaxTrainSteps == 0 && o.NumTrainEpochs < 1 {
		bad("max_train_steps, num_train_epochs: got %d and %d, want one of them above 0", o.MaxTrainSteps, o.NumTrainEpochs)
	}
	if !(o.LearningRate > 0) {
		bad("learning_rate: got %g, want above 0", o.LearningRate)
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
