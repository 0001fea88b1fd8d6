package plan

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"limner/xla"
)

// Run is the length of a whole training run.
type Run struct {
	Steps  int     `json:"max_train_steps,omitempty"`
	Epochs int     `json:"num_train_epochs,omitempty"` // if Steps is 0
	Images int     `json:"dataset_images,omitempty"`
	Price  float64 `json:"price_per_hour,omitempty"`
}

// Write prints a report.
func (r *Report) Write(w io.Writer, t xla.Topology, effort string, run Run) {
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	line("%s on %s: %d chips on %d hosts, %s each; %s; compiled with %s effort in %.0f s",
		r.Job, r.Topology, r.Chips, t.Hosts(), gigabytes(r.HBM), r.Variant, effort, r.CompileSeconds)
	if !r.Fits {
		line("does not fit: %s", r.Problem)
		for _, t := range r.Largest {
			line("  among its largest tensors: %s", t)
		}
		return
	}
	line("fits: %s of %s a chip (%.0f %%)", gigabytes(r.Peak), gigabytes(r.HBM), 100*float64(r.Peak)/float64(r.HBM))
	for _, name := range largestFirst(r.Classes, func(bytes int64) float64 { return float64(bytes) }) {
		if bytes := r.Classes[name]; bytes >= 1e6 {
			line("  %-20s %9s", name, gigabytes(bytes))
		}
	}
	for _, p := range r.Programs {
		line("%s%s: %.2f TFLOP, %.1f GB of traffic, %s; at least %s by arithmetic and traffic",
			p.Name, times(p.Runs), p.FLOP/1e12, p.Accessed/1e9, seconds(p.Seconds), seconds(p.Roofline))
		for _, name := range p.networks() {
			share := p.Networks[name]
			line("  %-20s %5.2f TFLOP %7.1f GB", name, share.FLOP/1e12, share.HBM/1e9)
		}
		if text := p.collectives(); text != "" {
			line("  in collectives: %s", text)
		}
	}
	line("an image: %.2f TFLOP, %.1f GB", r.FLOPPerImage/1e12, r.BytesPerImage/1e9)
	if r.Seconds == 0 {
		line("time: the compiler gives no sane estimate for these programs; by arithmetic and traffic at least %s",
			seconds(r.Roofline))
		return
	}
	line("estimate: %.1f images/s on all chips, as the compiler estimates the programs; nothing was run",
		r.ImagesPerSec)
	r.run(line, run)
}

// run prints what the whole run takes.
func (r *Report) run(line func(string, ...any), run Run) {
	perStep := r.Variant.Batch * max(1, r.Variant.Accumulation) * r.Chips
	steps := run.Steps
	if steps == 0 && run.Images > 0 {
		steps = max(1, run.Epochs) * run.Images / perStep
	}
	if steps > 0 {
		took := time.Duration(float64(steps) * r.Seconds * float64(time.Second)).Round(time.Second)
		text := fmt.Sprintf("%d steps of %d images: %s", steps, perStep, took)
		if run.Price > 0 {
			text += fmt.Sprintf(", for %.2f", took.Hours()*run.Price)
		}
		line("%s", text)
	}
	if n := r.Classes["trained parameters"]; n > 0 {
		line("a checkpoint: %s", gigabytes(r.checkpoint()))
	}
	// A JPEG of 512 pixels takes 10 ms to decode and resize on one core.
	line("the loader decodes %.1f images/s: about %.0f cores for JPEGs of 512 pixels",
		r.ImagesPerSec, math.Ceil(r.ImagesPerSec*0.01))
}

// networks lists the networks with at least a hundredth of the arithmetic or of the traffic, by traffic; none if there
// is only one.
func (p Program) networks() []string {
	var all Share
	for _, share := range p.Networks {
		all.FLOP, all.HBM = all.FLOP+share.FLOP, all.HBM+share.HBM
	}
	names := slices.DeleteFunc(largestFirst(p.Networks, func(s Share) float64 { return s.HBM }),
		func(name string) bool {
			share := p.Networks[name]
			return share.FLOP < all.FLOP/100 && share.HBM < all.HBM/100
		})
	if len(names) == 1 {
		return nil
	}
	return names
}

// collectives lists the collectives of more than a megabyte, the largest first.
func (p Program) collectives() string {
	var parts []string
	for _, kind := range largestFirst(p.Collectives, func(bytes float64) float64 { return bytes }) {
		if bytes := p.Collectives[kind]; bytes >= 1e6 {
			parts = append(parts, kind+" "+gigabytes(int64(bytes)))
		}
	}
	return strings.Join(parts, ", ")
}

// largestFirst lists a map's keys by the sizes of their values, the largest first, equal ones by name.
func largestFirst[V any](m map[string]V, size func(V) float64) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(size(m[b]), size(m[a])), cmp.Compare(a, b))
	})
}

// checkpoint is the size of a checkpoint: trained parameters and optimizer state, over all chips.
func (r *Report) checkpoint() int64 {
	share := int64(1)
	if r.Variant.FSDP {
		share = int64(r.Chips)
	}
	return r.Classes["trained parameters"]*share + (r.Classes["moments"]+r.Classes["averages"])*int64(r.Chips)
}

// WriteLine prints a report in one line, compared with the first.
func (r *Report) WriteLine(w io.Writer, first *Report) {
	if !r.Fits {
		fmt.Fprintf(w, "  %s: does not fit: %s\n", r.Variant, r.Problem)
		return
	}
	text := fmt.Sprintf("  %s: fits, %s a chip", r.Variant, gigabytes(r.Peak))
	if r.Seconds > 0 {
		text += fmt.Sprintf(", %.1f images/s", r.ImagesPerSec)
		if first.Seconds > 0 {
			text += fmt.Sprintf(" (%.2f times as many)", r.ImagesPerSec/first.ImagesPerSec)
		}
	}
	fmt.Fprintln(w, text)
}

func times(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf(" ×%d", n)
}

func seconds(s float64) string {
	switch {
	case s == 0:
		return "no sane estimate of its time"
	case s < 1:
		return fmt.Sprintf("%.1f ms", s*1e3)
	}
	return fmt.Sprintf("%.2f s", s)
}
