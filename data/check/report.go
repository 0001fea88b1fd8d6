package check

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"limner/data"
	"limner/internal/units"
)

// Report is what the check has found.
type Report struct {
	Dataset    string    `json:"dataset"` // base names
	Verdict    string    `json:"verdict"` // in one line
	Splits     []Split   `json:"splits"`
	NoHeldOut  string    `json:"no_held_out_rows,omitempty"` // why there are none
	Resolution int       `json:"resolution"`
	Assumed    bool      `json:"resolution_assumed"` // it was not given
	Sizes      []Size    `json:"sizes"`              // of images, the most frequent first
	OtherSizes int       `json:"other_sizes"`        // images of sizes that are not listed
	Sharpness  float64   `json:"median_sharpness"`
	Captions   Captions  `json:"captions"`
	Pairs      *Pairs    `json:"pairs,omitempty"`
	Licences   []Licence `json:"licences,omitempty"`
	Run        Needs     `json:"run"`
	Findings   []Finding `json:"findings"`

	sheet []Example
	worst []Example

	paths, heldOut []string     // of the dataset, and of its held-out rows if there are any
	reading        data.Options // of the rows that are trained on
}

// Split is one of the dataset's.
type Split struct {
	Name       string `json:"name"` // train or held-out
	Rows       int    `json:"rows"`
	Unreadable int    `json:"unreadable"`
	Bytes      int64  `json:"bytes"` // of what is read of the files
	Opened     string `json:"opened"`
}

// Size is how many images have a size.
type Size struct {
	Width  int `json:"width"`
	Height int `json:"height"`
	Images int `json:"images"`
}

// Captions are numbers about the captions.
type Captions struct {
	Distinct  int    `json:"distinct"`
	Tokenizer string `json:"tokenizer,omitempty"` // "": tokens were not counted
	Longest   int    `json:"longest_tokens,omitempty"`
	Most      int    `json:"tokens_read,omitempty"`
}

// Pairs are numbers about images and conditions.
type Pairs struct {
	Correlation float64 `json:"median_edge_correlation"`
	Strangers   float64 `json:"median_edge_correlation_of_other_pairs"`
	Compared    int     `json:"compared"`
}

// Licence is how many rows have a licence.
type Licence struct {
	Name string `json:"name"`
	Rows int    `json:"rows"`
}

// Needs is what a run on the train split takes.
type Needs struct {
	BatchSize     int   `json:"train_batch_size"`
	StepsPerEpoch int   `json:"steps_per_epoch"`
	Dataset       int64 `json:"dataset_bytes"`
	Latents       int64 `json:"cached_latents_bytes"` // of --cache_latents, for the VAE of Stable Diffusion
	HostMemory    int64 `json:"host_memory_bytes"`    // for rows, decoding and batches, without the model
}

// report concludes the tally.
func (t *tally) report(lacks []lack, missing string) *Report {
	r := &Report{
		Splits: t.splits, NoHeldOut: missing, Resolution: t.options.Resolution, Assumed: t.parts[0].assumed,
		Findings: t.findings(lacks), Run: t.needs(), sheet: t.sheet,
		Captions: Captions{Distinct: len(t.captions)}, Sharpness: median(t.sharpness),
	}
	if len(t.options.Tokenizers) > 0 && len(t.captions) > 0 {
		r.Captions.Tokenizer, r.Captions.Longest, r.Captions.Most = t.options.Tokenizer, t.words.longest, t.words.most
	}
	for size, n := range t.sizes {
		r.Sizes = append(r.Sizes, Size{size[0], size[1], n})
	}
	slices.SortFunc(r.Sizes, func(a, b Size) int {
		if a.Images != b.Images {
			return b.Images - a.Images
		}
		return (a.Width-b.Width)<<20 + a.Height - b.Height
	})
	const listed = 12
	for _, s := range r.Sizes[min(len(r.Sizes), listed):] {
		r.OtherSizes += s.Images
	}
	r.Sizes = r.Sizes[:min(len(r.Sizes), listed)]
	for _, name := range slices.Sorted(maps.Keys(t.licences)) {
		r.Licences = append(r.Licences, Licence{name, t.licences[name]})
	}
	if n := len(t.pairs.own); n > 0 {
		r.Pairs = &Pairs{
			Correlation: round(median(t.pairs.own)), Strangers: round(median(t.pairs.strange)), Compared: n,
		}
		for _, p := range t.pairs.worst[:min(len(t.pairs.worst), 6)] {
			r.worst = append(r.worst, p.row)
		}
	}
	r.Verdict = Verdict(r.Findings)
	return r
}

// round leaves three decimals: more are noise.
func round(v float64) float64 { return float64(int(v*1000+0.5)) / 1000 }

// needs reckons what a run takes.
func (t *tally) needs() Needs {
	train, side := t.parts[0], int64(t.options.Resolution)
	r := Needs{
		BatchSize: t.options.BatchSize, StepsPerEpoch: train.Len() / t.options.BatchSize, Dataset: train.Bytes(),
	}
	// Moments of a VAE with 4 channels at an eighth of the size: mean and variance, as float32.
	const scale, channels = 8, 4
	r.Latents = int64(train.Len()) * (side / scale) * (side / scale) * 2 * channels * 4
	if t.options.RandomFlip {
		r.Latents *= 2
	}
	values := int64(3) // of a pixel of a batch, as float32
	if train.options.NeedConditioning {
		values += 3
	}
	if t.options.MaskColumn != "" {
		values++
	}
	batches := int64(train.options.Prefetch+2) * int64(t.options.BatchSize) * side * side * values * 4
	largest := int64(0)
	for size := range t.sizes {
		largest = max(largest, int64(size[0])*int64(size[1]))
	}
	const decoding = 12 // bytes of a pixel while it is decoded and resized
	r.HostMemory = min(train.options.BufferBytes, train.Bytes()) + batches + largest*decoding*int64(train.Workers())
	return r
}

// Verdict says in a line what findings amount to.
func Verdict(findings []Finding) string {
	counts := map[Severity]int{}
	for _, f := range findings {
		counts[f.Severity]++
	}
	var parts []string
	for _, s := range []Severity{Error, Warning, Note} {
		if n := counts[s]; n > 0 {
			parts = append(parts, counted(n, string(s), string(s)+"s"))
		}
	}
	if counts[Error]+counts[Warning] == 0 {
		parts = append([]string{"nothing that has to be changed"}, parts...)
	}
	return strings.Join(parts, ", ")
}

// Worst is the highest severity among findings; "" without any.
func Worst(findings []Finding) Severity {
	worst := Severity("")
	for _, f := range findings {
		if f.Severity.rank() > worst.rank() {
			worst = f.Severity
		}
	}
	return worst
}

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// fact is a number of the report with its name.
type fact struct{ Name, Value string }

// facts are the report's numbers.
func (r *Report) facts() []fact {
	var facts []fact
	add := func(name, format string, args ...any) {
		facts = append(facts, fact{name, fmt.Sprintf(format, args...)})
	}
	for _, s := range r.Splits {
		add(s.Name, "%s, %s of files", counted(s.Rows, "row", "rows"), units.Bytes(s.Bytes))
	}
	if r.NoHeldOut != "" {
		add("held-out", "none")
	}
	var sizes []string
	for _, s := range r.Sizes[:min(len(r.Sizes), 4)] {
		sizes = append(sizes, fmt.Sprintf("%d×%d (%s)", s.Width, s.Height, units.Count(s.Images)))
	}
	others := r.OtherSizes
	for _, s := range r.Sizes[len(sizes):] {
		others += s.Images
	}
	if others > 0 {
		sizes = append(sizes, "others ("+units.Count(others)+")")
	}
	if len(sizes) > 0 {
		add("sizes", "%s", strings.Join(sizes, ", "))
	}
	if c := r.Captions; c.Distinct > 0 {
		text := units.Count(c.Distinct) + " different"
		if c.Tokenizer == "" {
			text += "; tokens were not counted"
		} else {
			text += fmt.Sprintf(", at most %d tokens of %d by %s", c.Longest, c.Most, c.Tokenizer)
		}
		add("captions", "%s", text)
	}
	if p := r.Pairs; p != nil {
		add("edge correlation", "%.2f of image and condition, %.2f of pairs that do not belong together",
			p.Correlation, p.Strangers)
	}
	if len(r.Licences) > 0 {
		var names []string
		for _, l := range r.Licences {
			names = append(names, fmt.Sprintf("%s (%s)", l.Name, units.Count(l.Rows)))
		}
		add("licences", "%s", strings.Join(names[:min(len(names), 8)], ", "))
	}
	assumed := ""
	if r.Assumed {
		assumed = " (assumed; --resolution sets another)"
	}
	add("a run", "at %d%s in batches of %d: %s an epoch", r.Resolution, assumed, r.Run.BatchSize,
		counted(r.Run.StepsPerEpoch, "step", "steps"))
	add("its memory", "%s of the host for rows and batches; --cache_latents takes %s more, and as much in --cache_dir",
		units.Bytes(r.Run.HostMemory), units.Bytes(r.Run.Latents))
	return facts
}

// Summary is the report for a terminal.
func (r *Report) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n", r.Dataset, r.Verdict)
	for _, f := range r.facts() {
		fmt.Fprintf(&b, "  %-17s %s\n", f.Name, f.Value)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n%s: %s\n  %s\n", f.Severity, f.Title, strings.ReplaceAll(f.Advice, "\n", "\n  "))
		const shown = 5
		for _, row := range f.Rows[:min(len(f.Rows), shown)] {
			line := row.Row
			if row.Detail != "" {
				line += ": " + row.Detail
			}
			fmt.Fprintf(&b, "    %s\n", line)
		}
		if more := f.Count - shown; more > 0 && len(f.Rows) > 0 {
			fmt.Fprintf(&b, "    and %s more\n", units.Count(more))
		}
	}
	return b.String()
}
