package watch

import "time"

// Options say what a run shows of itself on its way: flags of limner train. None of it has a say in the result.
type Options struct {
	// Title is what the diary calls the run; "" is the name of its output folder.
	Title string `kong:"-"`

	Validation Validation `group:"validation" embed:""`
	// LoggingDir is below the output folder unless it is absolute; "" writes no events.
	LoggingDir     string `group:"logging" default:"logs" help:"Folder for TensorBoard's events, below the output folder."`
	MetricsAddress string `group:"logging" placeholder:"HOST:PORT" help:"Serve the run's numbers to Prometheus there, such as :9090."`
	// ProfileSteps are those after the first two.
	ProfileSteps int     `group:"logging" placeholder:"N" help:"Trace N steps into the output folder's profile/trace.json, for Perfetto or chrome://tracing."`
	PeakTFLOPs   float64 `name:"device-peak-tflops" group:"logging" placeholder:"X" help:"Peak of a device in TFLOP/s, for the share of it that is used; without it, with --backend tpu, the 275 of a TPU v4's chip."`
}

// Run is what is shown of a run that does not change on its way.
type Run struct {
	Options
	Name        string // of the objective
	Model       string // that it began with
	OutputDir   string
	RecipeFile  string // in the output folder: what the run can be made from again
	RecordFile  string // in the output folder: what it was made of
	Steps       int    // of the whole run
	Batch       int    // images on all devices at a time
	Images      int    // of a step
	Devices     int
	Parameters  int // that are trained
	Rows        int // of the dataset
	CompileTime time.Duration
	Loaded      bool    // the step had been compiled before
	FLOPs       float64 // of a step

	// Writes is false where another process of the run writes what is shown: of this one only its part in validation is
	// needed.
	Writes bool
	Logf   func(format string, args ...any) // hears what a person may want to know
}

// flopsPerImage are the operations of a step for an image.
func (r Run) flopsPerImage() float64 { return r.FLOPs / float64(r.Images) }
