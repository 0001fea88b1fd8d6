package watch

import "time"

// Options say what a run shows of itself on its way. None of it has a say in the result.
type Options struct {
	// LoggingDir is the folder for TensorBoard's events, below the output folder unless it is absolute; "" writes none.
	LoggingDir     string
	MetricsAddress string  // where Prometheus finds the run's numbers over HTTP, such as ":9090"; "" serves none
	ProfileSteps   int     // steps to trace, after the first two
	PeakTFLOPs     float64 // of one device; 0 is unknown
	Validation     Validation
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

	// Writes is false where another process of the run writes what is shown: of this one only its part in validation is needed.
	Writes bool
	Logf   func(format string, args ...any) // hears what a person may want to know
}

// flopsPerImage are the operations of a step for an image.
func (r Run) flopsPerImage() float64 { return r.FLOPs / float64(r.Images) }
