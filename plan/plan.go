// Package plan computes what a job needs on TPU chips that are not at hand: whether it fits, how long it takes, and
// which variants would help.
package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"limner/xla"
	"limner/xla/hlo"
)

// Variant is how a job is compiled.
type Variant struct {
	Batch         int  `json:"batch_per_chip"` // images of one run of a program on each chip
	Accumulation  int  `json:"gradient_accumulation_steps"`
	Checkpointing bool `json:"gradient_checkpointing"`
	CachedLatents bool `json:"cache_latents"`
	FSDP          bool `json:"fsdp"`
}

// Part is a program of a job.
type Part struct {
	Name    string
	Program *xla.Program
	Runs    int // for one batch of images, or one optimizer step
}

// Job is what is planned: its name and how its programs are compiled in a variant.
type Job struct {
	Name     string // for people
	Training bool
	Start    Variant
	Compile  func(context.Context, Variant) ([]Part, error)
}

// Planner compiles jobs for a topology.
type Planner struct {
	Topology xla.Topology
	Log      func(format string, args ...any) // is called with what is being compiled

	// Keep, if not nil, is called with each report that fits and its programs, before these are freed.
	Keep func(*Report, []Part) error
}

// Program is what the compiler says of a part, for one chip.
type Program struct {
	Name     string  `json:"name"`
	Runs     int     `json:"runs"`
	FLOP     float64 `json:"flop"`           // of all operations, by the cost analysis
	Accessed float64 `json:"bytes_accessed"` // on-chip memory included, by the cost analysis
	HBM      float64 `json:"bytes_hbm"`      // counted from the optimised program, see hlo.Traffic
	Seconds  float64 `json:"seconds"`        // the compiler's estimate; 0 if it is not plausible
	Roofline float64 `json:"roofline_seconds"`
	Peak     int64   `json:"peak_bytes"`

	Collectives map[string]float64 `json:"bytes_in_collectives"` // by the kind of operation, see hlo.Traffic
	Networks    map[string]Share   `json:"by_network"`           // operations of no network included
}

// Share is a network's part of a program's cost.
type Share struct {
	FLOP float64 `json:"flop"`      // of matrix products, convolutions and kernels
	HBM  float64 `json:"bytes_hbm"` // see hlo.Traffic
}

// Report is the plan of a job in one variant.
type Report struct {
	Job            string           `json:"job"`
	Topology       string           `json:"tpu"`
	Chips          int              `json:"chips"`
	Variant        Variant          `json:"variant"`
	Fits           bool             `json:"fits"`
	Problem        string           `json:"problem,omitempty"`         // why it does not
	Largest        []hlo.Tensor     `json:"largest_tensors,omitempty"` // of a program that the compiler refused
	HBM            int64            `json:"hbm_bytes"`                 // of a chip, available to programs
	Peak           int64            `json:"peak_bytes"`
	Classes        map[string]int64 `json:"bytes_by_class"` // of memory on a chip while the largest program runs
	Programs       []Program        `json:"programs"`
	Seconds        float64          `json:"seconds"` // of a batch or an optimizer step; 0 if unknown
	Roofline       float64          `json:"roofline_seconds"`
	ImagesPerSec   float64          `json:"images_per_s"`
	FLOPPerImage   float64          `json:"flop_per_image"`
	BytesPerImage  float64          `json:"bytes_per_image"`
	CompileSeconds float64          `json:"compile_seconds"`
}

// Compile plans a job in one variant. It fails if the job itself is invalid; a job that does not fit is no error, the
// report says so.
func (p Planner) Compile(ctx context.Context, job Job, v Variant) (report *Report, err error) {
	p.Log("compiling %s for %s: %s", job.Name, p.Topology.Name, v)
	start := time.Now()
	r := &Report{
		Job: job.Name, Topology: p.Topology.Name, Chips: p.Topology.Chips(), Variant: v,
		HBM: int64(p.Topology.Chip.HBM), Classes: map[string]int64{},
	}
	parts, err := job.Compile(ctx, v)
	r.CompileSeconds = time.Since(start).Seconds()
	var refused *xla.TooLarge
	if errors.As(err, &refused) {
		r.Problem, r.Largest = firstSentence(refused.Refusal.Text), refused.Largest
		return r, nil
	} else if err != nil {
		return nil, err
	}
	defer func() {
		for _, part := range parts {
			err = errors.Join(err, part.Program.Close())
		}
	}()
	resident := map[string]bool{}
	var working, code int64
	for _, part := range parts {
		program, err := p.program(part)
		if err != nil {
			return nil, err
		}
		r.Programs = append(r.Programs, program)
		for _, in := range part.Program.Inputs() {
			if bytes := part.Program.DeviceBytes(in); !resident[in.Name] {
				resident[in.Name] = true
				r.Classes[class(in)] += bytes
				r.Peak += bytes
			}
		}
		m := part.Program.Memory()
		working, code = max(working, m.Peak-m.Arguments), code+m.Code
	}
	r.Classes["temporaries"], r.Classes["code"] = working, code
	r.Peak += working
	r.Fits = r.Peak <= r.HBM
	if !r.Fits {
		r.Problem = fmt.Sprintf("the programs together need %s on each chip, which has %s",
			gigabytes(r.Peak), gigabytes(r.HBM))
	}
	r.total()
	if p.Keep != nil && r.Fits {
		err = p.Keep(r, parts)
	}
	return r, err
}

// program reads the compiler's figures for a part.
func (p Planner) program(part Part) (Program, error) {
	cost, err := part.Program.Planned().Cost()
	if err != nil {
		return Program{}, fmt.Errorf("%s: %w", part.Name, err)
	}
	traffic, err := part.Program.Traffic()
	if err != nil {
		return Program{}, fmt.Errorf("%s: %w", part.Name, err)
	}
	flop, err := part.Program.FLOPsByLayer()
	if err != nil {
		return Program{}, fmt.Errorf("%s: %w", part.Name, err)
	}
	byLayer, shares := networks(part.Program.Inputs()), map[string]Share{}
	add := func(layer string, flop, bytes float64) {
		network := cmp.Or(byLayer[layer], "rest") // of no input: the compiler's name for operations of its own
		shares[network] = Share{shares[network].FLOP + flop, shares[network].HBM + bytes}
	}
	for layer, bytes := range traffic.ByLayer {
		add(layer, 0, bytes)
	}
	for layer, n := range flop {
		add(layer, n, 0)
	}
	out := Program{
		Name: part.Name, Runs: part.Runs, FLOP: cost["flops"], Accessed: cost["bytes accessed"], HBM: traffic.Bytes,
		Peak: part.Program.Memory().Peak, Collectives: traffic.Collectives, Networks: shares,
	}
	out.Roofline = p.Topology.Chip.Roofline(out.FLOP, out.HBM)
	out.Seconds = Estimate(cost["optimal_seconds"], out.Roofline)
	return out, nil
}

// Estimate corrects libtpu's optimal_seconds; it returns 0 if it cannot. Operations of unknown time count -1 second
// each; as many seconds are added as bring the time to at least what the arithmetic and the traffic need.
func Estimate(optimal, roofline float64) float64 {
	const least = 0.8 // of the roofline, which ignores what on-chip memory saves
	t := optimal
	if t < 0 {
		for t -= math.Floor(t); t < least*roofline; t++ {
		}
	}
	if !(t >= least*roofline && t <= 5*roofline+1e-3) {
		return 0
	}
	return t
}

// total sums up the programs.
func (r *Report) total() {
	var flop, accessed float64
	known := true
	for _, p := range r.Programs {
		n := float64(p.Runs)
		flop, accessed = flop+n*p.FLOP, accessed+n*p.Accessed
		r.Seconds, r.Roofline = r.Seconds+n*p.Seconds, r.Roofline+n*p.Roofline
		known = known && p.Seconds > 0
	}
	images := float64(r.Variant.Batch * max(1, r.Variant.Accumulation))
	r.FLOPPerImage, r.BytesPerImage = flop/images, accessed/images
	if !known {
		r.Seconds = 0
		return
	}
	r.ImagesPerSec = images * float64(r.Chips) / r.Seconds
}

// class is the name of an input's class.
func class(in xla.Value) string { return cmp.Or(string(in.Class), "batch") }

// networks gives the network of each layer of programs with such inputs, see hlo.Traffic: the layer of an input is its
// name without what follows the last dot. Those of trained parameters stand below the name of their group.
func networks(inputs []xla.Value) map[string]string {
	networks := map[string]string{"": "rest"}
	for _, in := range inputs {
		end := strings.LastIndexByte(in.Name, '.')
		if end < 0 {
			continue
		}
		layer := in.Name[:end]
		path := strings.Split(layer, ".")
		switch in.Class {
		case xla.Averages, xla.GradientSums, xla.Moments:
			networks[layer] = "optimizer"
		case xla.TrainedParameters:
			networks[layer] = path[1]
		default:
			networks[layer] = path[0]
		}
	}
	return networks
}

func (v Variant) String() string {
	text := fmt.Sprintf("batch %d a chip", v.Batch)
	if v.Accumulation > 1 {
		text += fmt.Sprintf(", accumulation %d", v.Accumulation)
	}
	for _, f := range []struct {
		on   bool
		name string
	}{{v.Checkpointing, "gradient checkpointing"}, {v.CachedLatents, "cached latents"}, {v.FSDP, "FSDP"}} {
		if f.on {
			text += ", " + f.name
		}
	}
	return text
}

// firstSentence is the line of a compiler's message that says what does not fit.
func firstSentence(text string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, "exceeds available") || strings.Contains(line, "Ran out of memory") {
			return strings.TrimSpace(line)
		}
	}
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func gigabytes(bytes int64) string { return fmt.Sprintf("%.2f GB", float64(bytes)/1e9) }
