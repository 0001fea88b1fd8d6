package batch

import (
	"context"
	"io"

	"limner/data/imaging"
	"limner/models/diffusers"
	"limner/sample"
	"limner/sample/schedule"
	"limner/xla"
)

// Host is what a List needs of the program that samples it.
type Host struct {
	Version string // of the program, for records
	Backend string // the devices' name, for records
	// Open opens the devices. It is called when all that can be refused without them was.
	Open func(ctx context.Context) (*xla.Backend, error)
	// OpenModel reads all of a model but its weights; Locate finds the files of another, by its path or its name on the
	// Hub.
	OpenModel func(ctx context.Context, o diffusers.ModelOptions) (*diffusers.Pipeline, error)
	Locate    func(ctx context.Context, name, variant string) (path string, err error)

	Log     io.Writer // what there is to say, a line each
	Watcher Watcher
}

// Watcher is told how far a List is. Images are written while the next are sampled, so its methods may be called at
// once.
type Watcher interface {
	Step(done, total int)                                // after each call of the network
	Preview(m *imaging.RGB) error                        // what the images of a round look like
	Image(path string, seed uint64, prompt string) error // an image was written
	File(path string) error                              // so was a file that goes with the images
}

// List samples the images that limner sample is asked for.
type List struct {
	options  *Options
	host     Host
	out      *output
	jobs     []*job
	pictures *pictures
	given    *givenLatents
	model    sample.Model
	files    []UsedFile // that the model was loaded from
	backend  *xla.Backend
	groups   []group
	record   folderRecord
	latents  *latentsWriter
	failed   error // to write previews
}

// group are jobs that a request can ask for together.
type group struct {
	shape  sample.Shape
	chunks int // of the texts
	jobs   []*job
}

// round are jobs that are sampled at once.
type round struct {
	shape    sample.Shape
	jobs     []*job
	schedule schedule.Schedule
}
