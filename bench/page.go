package main

import (
	"fmt"
	"os"
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
	{"_wall", "Time of a step, an image or a forward pass"},
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
	if len(results) > 0 {
		day, _, _ := strings.Cut(results[0].Date, "T")
		fmt.Fprintf(&b, "\nOn %s; %s.\n", results[0].Machine, day)
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

// rounded prints a value for people, to three digits.
func (r result) rounded(x float64) string {
	if r.Unit == "bytes" {
		return fmt.Sprintf("%.3g GB", x/1e9)
	}
	return fmt.Sprintf("%.3g s", x)
}
