package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/plan"
)

// TestTable reads reports in any order and compares each with the fewest chips of its sharding.
func TestTable(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, r plan.Report) string {
		raw, err := json.Marshal(map[string]any{"reports": []plan.Report{r}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	moved := []plan.Program{
		{Runs: 2, Collectives: map[string]float64{"all-gather": 1e9, "all-reduce": 2e9, "all-to-all": 1e6}},
	}
	files := []string{
		write("64", plan.Report{Fits: true, Chips: 64, Seconds: 0.11, Peak: 9e9, ImagesPerSec: 2000, Programs: moved}),
		write("4", plan.Report{Fits: true, Chips: 4, Seconds: 0.1, Peak: 11e9, ImagesPerSec: 140}),
		write("fsdp", plan.Report{Fits: true, Chips: 4, Seconds: 0.2, Variant: plan.Variant{FSDP: true}}),
	}
	reports, err := read(files)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	table(&text, reports)
	want := `| FSDP | 4 | 200.0 | +0.0 % | 0 | 0.00 |  |
| data parallel | 4 | 100.0 | +0.0 % | 140 | 11.00 |  |
| data parallel | 64 | 110.0 | +10.0 % | 2000 | 9.00 | all-reduce 4.00, all-gather 2.00 |
`
	if !strings.HasSuffix(text.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", &text, want)
	}
	if _, err := read([]string{write("not", plan.Report{Problem: "too large"})}); err == nil ||
		!strings.Contains(err.Error(), "no report of a job that fits") {
		t.Errorf("got %v, want that it does not fit", err)
	}
}
