package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"limner/internal/disk"
)

// speedPage is the page whose tables the results fill, from the root of the repository.
const speedPage = "docs/speed.md"

// The bench writes what is between these lines of the page.
const (
	tablesBegin = "<!-- written by make bench -->\n"
	tablesEnd   = "<!-- end of what make bench wrote -->\n"
)

// measures are the tables of the page, each by the end of its results' names.
var measures = []struct{ end, title string }{
	{"_wall", "Time of a step, an image, a forward pass, or some rows"},
	{"_cpu", "CPU time of the same"},
	{"_start_wall", "From the start of the process to the end of its first step"},
	{"_compile_cpu", "CPU time of compiling"},
	{"_peak_rss", "Peak memory"},
}

// writePage puts the tables of results into the page.
func writePage(path string, results []result) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := withTables(string(page), results)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return disk.WriteFile(path, []byte(text), 0o644)
}

// withTables replaces what is between the marks of a page.
func withTables(page string, results []result) (string, error) {
	before, rest, begun := strings.Cut(page, tablesBegin)
	_, after, ended := strings.Cut(rest, tablesEnd)
	if !begun || !ended {
		return "", fmt.Errorf("the lines %q and %q are not there",
			strings.TrimSpace(tablesBegin), strings.TrimSpace(tablesEnd))
	}
	return before + tablesBegin + tables(results) + tablesEnd + after, nil
}

// tables writes a table for each measure, with the cases in their order, and where and when they were measured.
func tables(results []result) string {
	var b strings.Builder
	for i, m := range measurings(results) {
		fmt.Fprintf(&b, "\nOn %s", m.where)
		if i > 0 { // the first is where all others were measured
			fmt.Fprintf(&b, ": %s", strings.Join(m.titles, "; "))
		}
		b.WriteString(".\n")
	}
	for _, m := range measures {
		fmt.Fprintf(&b, "\n%s:\n\n| | ours | | peer | ours over the peer's |\n|---|---|---|---|---|\n", m.title)
		for _, c := range cases() {
			for _, r := range results {
				if r.Name == c.name+m.end {
					fmt.Fprintf(&b, "| %s | %s | %s | %s | %.2f |\n",
						c.title, r.rounded(r.Ours), r.Against, r.rounded(r.Peer), r.Ratio)
				}
			}
		}
	}
	return b.String() + "\n"
}

// measuring is where and when some cases were measured.
type measuring struct {
	where  string
	titles []string
}

// measurings lists where and when the cases of the results were measured, in their order.
func measurings(results []result) []measuring {
	var all []measuring
	for _, c := range cases() {
		i := slices.IndexFunc(results, func(r result) bool { return r.Name == c.name+measures[0].end })
		if i < 0 {
			continue
		}
		day, _, _ := strings.Cut(results[i].Date, "T")
		where := results[i].Machine + "; " + day
		at := slices.IndexFunc(all, func(m measuring) bool { return m.where == where })
		if at < 0 {
			at = len(all)
			all = append(all, measuring{where: where})
		}
		all[at].titles = append(all[at].titles, c.title)
	}
	return all
}

// rounded prints a value for people, to three digits.
func (r result) rounded(x float64) string {
	if r.Unit == "bytes" {
		return fmt.Sprintf("%.3g GB", x/1e9)
	}
	return fmt.Sprintf("%.3g s", x)
}
