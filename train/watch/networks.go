package watch

import (
	"io"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/data"
	"limner/models/nn"
	"limner/sample"
	"limner/train/loss"
	"limner/xla"
	"limner/xla/program"
)

// Networks are those that validation draws with and measures, where training has them.
type Networks struct {
	Backend    *xla.Backend
	Objective  loss.Objective
	Step       Step
	Batch      int // images on all devices at a time
	Seed       uint64
	Resolution int    // pixels of an image, each way
	Background string // behind conditioning images that are not opaque, see [imaging.NewDecoding]

	// Drawing is the model that validation draws with, given the parameters on the devices by key; nil: it draws none.
	Drawing func(resident program.Arrays) sample.Model
	Held    *Held // rows for the validation loss; nil: there is none
	// NewControlNet says that the run began with a new ControlNet, which changes nothing before the first step.
	NewControlNet bool
	Log           io.Writer // hears of compiling, and of prompts that are long; nil: silence

	// Announce gives what says that a program is compiled or loaded.
	Announce func(program string) func(loading bool, compiling xla.Expected)
}

// Step is what validation asks of the training step.
type Step interface {
	// Resident are the parameters on the devices by their keys, the averages in the place of those that are trained
	// where there are any. Training replaces what they hold.
	Resident() program.Arrays
	// Encode makes a batch of what the feed gave, which stays. The batch holds until the next one is made.
	Encode(fed program.Arrays) (batch program.Arrays, err error)
}

// Held are rows that training does not see.
type Held struct {
	Dataset   *data.Dataset
	Feed      func(*data.Batch) (program.Arrays, error) // as the run's
	Loss      func(trainable, frozen nn.Params, batch program.Nodes, draw loss.Draws) *Node
	Timesteps int // num_train_timesteps
}
