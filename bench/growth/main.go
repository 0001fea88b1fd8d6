// Command growth shows how a training step's figures change with the number of TPU chips: a table, and a plot of the
// time and the memory of a chip. It reads what limner plan --json printed.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"limner/plan"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("growth: ")
	image := flag.String("plot", "", "write the plot to this PNG `file`")
	flag.Parse()
	reports, err := read(flag.Args())
	if err != nil {
		log.Fatal(err)
	}
	table(os.Stdout, reports)
	if *image != "" {
		err = draws(*image, reports)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// read reads the reports of files, sorted by sharding and number of chips.
func read(files []string) ([]*plan.Report, error) {
	var all []*plan.Report
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var out struct{ Reports []*plan.Report }
		if err := json.Unmarshal(raw, &out); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(out.Reports) == 0 || !out.Reports[0].Fits {
			return nil, fmt.Errorf("%s: no report of a job that fits", name)
		}
		all = append(all, out.Reports[0])
	}
	slices.SortFunc(all, func(a, b *plan.Report) int {
		return cmp.Or(cmp.Compare(sharding(a), sharding(b)), cmp.Compare(a.Chips, b.Chips))
	})
	return all, nil
}

func sharding(r *plan.Report) string {
	if r.Variant.FSDP {
		return "FSDP"
	}
	return "data parallel"
}

// table prints the reports as Markdown. "more" is the extra time of a step compared with the fewest chips of the same
// sharding.
func table(w io.Writer, reports []*plan.Report) {
	fmt.Fprintln(w, "| | chips | ms a step | more | images/s | peak, GB | GB in collectives |\n"+
		"|---|---|---|---|---|---|---|")
	var first *plan.Report
	for _, r := range reports {
		if first == nil || sharding(first) != sharding(r) {
			first = r
		}
		fmt.Fprintf(w, "| %s | %d | %.1f | %+.1f %% | %.0f | %.2f | %s |\n",
			sharding(r), r.Chips, 1e3*r.Seconds, 100*(r.Seconds/first.Seconds-1), r.ImagesPerSec,
			float64(r.Peak)/1e9, collectives(r))
	}
}

// collectives are those of a step that move more than ten megabytes, in gigabytes, the largest first.
func collectives(r *plan.Report) string {
	total := map[string]float64{}
	for _, p := range r.Programs {
		for kind, bytes := range p.Collectives {
			total[kind] += float64(p.Runs) * bytes
		}
	}
	var parts []string
	for _, kind := range slices.SortedFunc(maps.Keys(total), func(a, b string) int {
		return cmp.Compare(total[b], total[a])
	}) {
		if total[kind] >= 1e7 {
			parts = append(parts, fmt.Sprintf("%s %.2f", kind, total[kind]/1e9))
		}
	}
	return strings.Join(parts, ", ")
}

// draws draws time and memory over the chips, one beside the other.
func draws(file string, reports []*plan.Report) error {
	charts := make([]*plot.Plot, 2)
	for i, c := range []struct {
		title string
		of    func(*plan.Report) float64
	}{
		{"ms a step, as estimated", func(r *plan.Report) float64 { return 1e3 * r.Seconds }},
		{"GB of memory at the peak", func(r *plan.Report) float64 { return float64(r.Peak) / 1e9 }},
	} {
		p := plot.New()
		p.Title.Text, p.X.Label.Text, p.X.Scale = c.title, "chips", plot.LogScale{}
		lines := map[string]plotter.XYs{}
		var ticks plot.ConstantTicks
		for _, r := range reports {
			name, y := sharding(r), c.of(r)
			lines[name] = append(lines[name], plotter.XY{X: float64(r.Chips), Y: y})
			ticks = append(ticks, plot.Tick{Value: float64(r.Chips), Label: fmt.Sprint(r.Chips)})
			p.Y.Max = math.Max(p.Y.Max, 1.3*y)
		}
		p.X.Tick.Marker = ticks
		if err := plotutil.AddLinePoints(p, "data parallel", lines["data parallel"], "FSDP",
			lines["FSDP"]); err != nil {
			return err
		}
		p.Y.Min = 0
		charts[i] = p
	}
	canvas := vgimg.New(9*vg.Inch, 3*vg.Inch)
	tiles := draw.Tiles{
		Rows: 1, Cols: 2, PadX: 8 * vg.Millimeter, PadTop: 3 * vg.Millimeter, PadRight: 3 * vg.Millimeter,
		PadBottom: 2 * vg.Millimeter, PadLeft: 2 * vg.Millimeter,
	}
	for i, tile := range plot.Align([][]*plot.Plot{charts}, tiles, draw.New(canvas))[0] {
		charts[i].Draw(tile)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(f)
	return errors.Join(err, f.Close())
}
