package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"limner/internal/disk"
)

// result is one row.
type result struct {
	Name    string  `json:"name"`
	Against string  `json:"against"` // the peer
	Unit    string  `json:"unit"`
	Ours    float64 `json:"ours"`
	Peer    float64 `json:"peer"`
	Ratio   float64 `json:"ratio"` // ours over peer: smaller is better
	Goal    float64 `json:"goal"`  // the largest acceptable ratio
	Machine string  `json:"machine"`
	Date    string  `json:"date"`
}

// rows turns the figures of a case into results.
func rows(c benchCase, ours figures, peer side, machine, date string) []result {
	var out []result
	row := func(name, unit string, our, theirs, goal float64) {
		out = append(out, result{
			Name: c.name + "_" + name, Against: peer.name, Unit: unit, Ours: our, Peer: theirs,
			Ratio: ratio(our, theirs), Goal: goal, Machine: machine, Date: date,
		})
	}
	row("wall", "s", ours.Wall, peer.Wall, c.goals.wall)
	row("cpu", "CPU s", ours.CPU, peer.CPU, c.goals.cpu)
	if peer.CompileWall > 0 { // PyTorch does not compile
		row("compile_wall", "s", ours.CompileWall, peer.CompileWall, c.goals.compile)
		row("compile_cpu", "CPU s", ours.CompileCPU, peer.CompileCPU, c.goals.compile)
	}
	row("peak_rss", "bytes", float64(ours.Peak), float64(peer.Peak), c.goals.peak)
	if c.goals.start > 0 {
		row("start_wall", "s", ours.start, peer.start, c.goals.start)
	}
	if c.goals.alias {
		// The compiler's figure counts the padding of small arrays too, so it can exceed the state.
		row("not_aliased", "bytes", float64(max(0, ours.StateBytes-ours.AliasBytes)), float64(peer.StateBytes), 0)
	}
	return out
}

// ratio is our cost over the peer's. If the peer's is 0, only 0 is as good.
func ratio(ours, peer float64) float64 {
	switch {
	case peer > 0:
		return ours / peer
	case ours == 0:
		return 1
	default:
		return ours
	}
}

// met says whether the goal was reached.
func (r result) met() bool { return r.Ratio <= r.Goal }

// figure prints a value in its unit.
func (r result) figure(x float64) string {
	if r.Unit == "bytes" {
		return fmt.Sprintf("%.1f MB", x/1e6)
	}
	return fmt.Sprintf("%.3f %s", x, r.Unit)
}

func printTable(out io.Writer, results []result) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "case\tours\tpeer\t\tratio\tgoal\t")
	for _, r := range results {
		verdict := "met"
		if !r.met() {
			verdict = "missed"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.3f\t≤ %g\t%s\n",
			r.Name, r.figure(r.Ours), r.Against, r.figure(r.Peer), r.Ratio, r.Goal, verdict)
	}
	return table.Flush()
}

func readResults(path string) (results []result, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &results); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return results, nil
}

// merge puts newer results in place of older ones, and those of other cases behind them.
func merge(older, newer []result) []result {
	same := func(r result) func(result) bool {
		return func(o result) bool { return o.Name == r.Name && o.Against == r.Against }
	}
	merged := slices.Clone(older)
	for _, r := range newer {
		if i := slices.IndexFunc(merged, same(r)); i >= 0 {
			merged[i] = r
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// writeResults replaces the file completely or not at all.
func writeResults(path string, results []result) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(results); err != nil {
		return err
	}
	return disk.WriteFile(path, text.Bytes(), 0o644)
}

// machineName describes the processor.
func machineName() string {
	model := "unknown processor"
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores, %s, %s/%s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH)
}
