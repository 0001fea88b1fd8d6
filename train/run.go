package train

import (
	"errors"
	"fmt"
	"io"
	"time"

	"limner/data"
	"limner/models/nn"
	"limner/sample"
	"limner/train/folder"
	"limner/train/loss"
	"limner/train/step"
	"limner/train/watch"
	"limner/xla"
	"limner/xla/program"
)

// ErrInterrupted says that a run was stopped early with everything saved.
var ErrInterrupted = errors.New("stopped early")

// Run is a training run.
type Run struct {
	Options    Options
	Backend    *xla.Backend
	Objective  loss.Objective
	Components []folder.Component // the trainable networks
	Weights    Weights            // of all networks, that the run begins with
	Dataset    *data.Dataset
	Recipe     Recipe // what the run was made from; compared when it goes on
	// their configs by name, compared too; those of Components need not be here
	Networks map[string]any
	Feed     func(*data.Batch) (program.Arrays, error) // puts a batch on the devices
	Captions func(*data.Batch) []string                // that training has of a batch's rows; nil: none
	Finish   func(trained nn.Values) error             // publishes the result

	// Drawing is the model that validation draws with, given the parameters on the devices by key; nil: it draws none.
	Drawing func(resident program.Arrays) sample.Model
	Held    *watch.Held // rows for the validation loss; nil: there is none

	OnStep func(watch.Progress)
	Log    io.Writer // hears what a person may want to know; nil: silence

	compiled   *step.Step      // by Do, for the next Do
	savePauses []time.Duration // between the tries of a save; nil: folder.SavePauses
	byNeed     bool            // gradient checkpointing was not asked for, but nothing else fits the devices
}

// announce says what is done to a program.
func (r *Run) announce(program string) func(loading bool, compiling xla.Expected) {
	return func(loading bool, compiling xla.Expected) {
		if loading {
			r.logf("loading %s", program)
		} else {
			r.logf("compiling %s%s", program, compiling)
		}
	}
}

func (r *Run) logf(format string, args ...any) {
	if r.Log != nil {
		fmt.Fprintf(r.Log, format+"\n", args...)
	}
}

// Close closes the datasets and the files of the weights.
func (r *Run) Close() error {
	err := r.Dataset.Close()
	if r.Held != nil {
		err = errors.Join(err, r.Held.Dataset.Close())
	}
	if files, ok := r.Weights.(io.Closer); ok {
		err = errors.Join(err, files.Close())
	}
	return err
}
