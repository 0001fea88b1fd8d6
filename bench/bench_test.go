package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRatio(t *testing.T) {
	for _, c := range []struct{ ours, peer, want float64 }{
		{3, 4, 0.75},
		{0, 4, 0},
		{4, 2, 2},
		{0, 0, 1},
		{5, 0, 5},
	} {
		if got := ratio(c.ours, c.peer); got != c.want {
			t.Errorf("ratio(%g, %g): got %g, want %g", c.ours, c.peer, got, c.want)
		}
	}
}

func exampleRows() []result {
	c := benchCase{name: "case", goals: goals{wall: 1, cpu: 0.8, compile: 2, peak: 1, start: 0.5, alias: true}}
	ours := figures{
		setup{CompileWall: 3, CompileCPU: 6, StateBytes: 120, AliasBytes: 100}, cost{Wall: 0.5, CPU: 0.9, Peak: 2e6}, 4,
	}
	peer := figures{
		setup{CompileWall: 2, CompileCPU: 2, StateBytes: 80, AliasBytes: 80}, cost{Wall: 1, CPU: 1, Peak: 1e6}, 5,
	}
	return rows(c, ours, side{name: "flax", figures: peer}, "a machine", "today")
}

func TestRows(t *testing.T) {
	want := []result{
		{"case_wall", "flax", "s", 0.5, 1, 0.5, 1, "a machine", "today"},
		{"case_cpu", "flax", "CPU s", 0.9, 1, 0.9, 0.8, "a machine", "today"},
		{"case_compile_wall", "flax", "s", 3, 2, 1.5, 2, "a machine", "today"},
		{"case_compile_cpu", "flax", "CPU s", 6, 2, 3, 2, "a machine", "today"},
		{"case_peak_rss", "flax", "bytes", 2e6, 1e6, 2, 1, "a machine", "today"},
		{"case_start_wall", "flax", "s", 4, 5, 0.8, 0.5, "a machine", "today"},
		{"case_not_aliased", "flax", "bytes", 20, 80, 0.25, 0, "a machine", "today"},
	}
	if diff := cmp.Diff(want, exampleRows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestMerge(t *testing.T) {
	older := []result{{Name: "a", Against: "x", Ours: 1}, {Name: "a", Against: "y", Ours: 2}}
	newer := []result{{Name: "a", Against: "y", Ours: 3}, {Name: "b", Against: "x", Ours: 4}}
	want := []result{older[0], newer[0], newer[1]}
	if diff := cmp.Diff(want, merge(older, newer)); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

func TestPrintTable(t *testing.T) {
	var out bytes.Buffer
	if err := printTable(&out, exampleRows()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 8 {
		t.Fatalf("got %d lines, want a header and 7 rows:\n%s", len(lines), &out)
	}
	for i, want := range []string{
		"case ours peer ratio goal",
		"case_wall 0.500 s flax 1.000 s 0.500 ≤ 1 met",
		"case_cpu 0.900 CPU s flax 1.000 CPU s 0.900 ≤ 0.8 missed",
		"case_compile_wall 3.000 s flax 2.000 s 1.500 ≤ 2 met",
		"case_compile_cpu 6.000 CPU s flax 2.000 CPU s 3.000 ≤ 2 missed",
		"case_peak_rss 2.0 MB flax 1.0 MB 2.000 ≤ 1 missed",
		"case_start_wall 4.000 s flax 5.000 s 0.800 ≤ 0.5 missed",
		"case_not_aliased 0.0 MB flax 0.0 MB 0.250 ≤ 0 missed",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d: got %q, want %q", i, got, want)
		}
	}
}

func TestWriteResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	want := exampleRows()
	if err := writeResults(path, want); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []result
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	var fields []map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"name", "against", "unit", "ours", "peer", "ratio", "goal", "machine", "date"} {
		if _, ok := fields[0][key]; !ok {
			t.Errorf("no field %s in %s", key, raw)
		}
	}
}

func TestPeersHaveTheirCases(t *testing.T) {
	for _, c := range cases() {
		if len(c.peers) == 0 {
			t.Errorf("%s has no peer", c.name)
		}
		for _, p := range c.peers {
			script, err := os.ReadFile(filepath.Base(p.script))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(script), `    "`+c.name+`": `) {
				t.Errorf("%s has no case %s", p.script, c.name)
			}
		}
	}
}

func TestCheckPeer(t *testing.T) {
	root := t.TempDir()
	if err := flax.check(root); err == nil || !strings.Contains(err.Error(), "root of the repository") {
		t.Errorf("empty folder: got %v", err)
	}
	if err := os.MkdirAll(filepath.Join(root, filepath.Dir(flax.python)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, flax.script), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := flax.check(root); err == nil || !strings.Contains(err.Error(), "run make bench-peers first") {
		t.Errorf("no environment: got %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, flax.python), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := flax.check(root); err != nil {
		t.Error(err)
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(nil); err != nil || len(all) != len(cases()) {
		t.Errorf("without names: got %d cases, %v", len(all), err)
	}
	if one, err := choose([]string{"sd15_unet_forward"}); err != nil || len(one) != 1 ||
		one[0].name != "sd15_unet_forward" {
		t.Errorf("by name: got %v, %v", one, err)
	}
	if _, err := choose([]string{"other"}); err == nil || !strings.Contains(err.Error(), "train_step_small_unet") {
		t.Errorf("unknown name: got %v", err)
	}
}

// shell is a worker that prints its setup and a cost for each line that it reads.
func shell(setup, cost string) []string {
	return []string{"sh", "-c", `echo '` + setup + `'; while read n; do i=0; while [ $i -lt $n ]; do echo '` + cost + `'; i=$((i+1)); done; done`}
}

func TestCompare(t *testing.T) {
	for _, apart := range []bool{false, true} {
		c := benchCase{name: "case", rounds: 2, steps: 3, apart: apart}
		sides := []side{
			{name: "ours", command: shell(`{"compile_wall": 1, "parameters": 5}`, `{"wall": 2, "cpu": 3, "peak": 4}`)},
			{name: "flax", command: shell(`{"compile_wall": 6, "parameters": 5}`, `{"wall": 7, "cpu": 8, "peak": 9}`)},
		}
		if err := compare(context.Background(), c, sides); err != nil {
			t.Fatal(err)
		}
		for i := range sides {
			if sides[i].start <= 0 {
				t.Errorf("%s: started in %g s", sides[i].name, sides[i].start)
			}
			sides[i].start = 0
		}
		if want := (figures{setup{CompileWall: 1, Parameters: 5}, cost{2, 3, 4}, 0}); sides[0].figures != want {
			t.Errorf("ours: got %+v, want %+v", sides[0].figures, want)
		}
		if want := (figures{setup{CompileWall: 6, Parameters: 5}, cost{7, 8, 9}, 0}); sides[1].figures != want {
			t.Errorf("flax: got %+v, want %+v", sides[1].figures, want)
		}
	}
}

func TestCompareTellsWhyAWorkerFailed(t *testing.T) {
	good := shell(`{}`, `{"wall": 1}`)
	for name, bad := range map[string][]string{
		"before the setup": {"sh", "-c", "echo why >&2; exit 3"},
		"in a step":        {"sh", "-c", "echo '{}'; read n; echo why >&2; exit 3"},
	} {
		t.Run(name, func(t *testing.T) {
			sides := []side{{name: "ours", command: good}, {name: "flax", command: bad}}
			err := compare(context.Background(), benchCase{rounds: 1, steps: 1}, sides)
			if err == nil || !strings.Contains(err.Error(), "flax") ||
				!strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "why") {
				t.Errorf("got %v, want the side, the exit status and what it printed", err)
			}
		})
	}
}

func TestFiguresAddKeepsTheLeast(t *testing.T) {
	var f figures
	f.add([]cost{{3, 5, 1}, {2, 6, 2}})
	f.add([]cost{{4, 4, 3}})
	if want := (cost{2, 4, 3}); f.cost != want {
		t.Errorf("got %+v, want %+v", f.cost, want)
	}
}

// The page has the results that lie beside the bench, and nothing that was written by hand.
func TestSpeedPage(t *testing.T) {
	results, err := readResults("results.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../" + speedPage)
	if err != nil {
		t.Fatal(err)
	}
	want, err := withTables(string(page), results)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("%s has other tables than results.json gives (-want +got):\n%s", speedPage, diff)
	}
	for _, c := range cases() {
		if !strings.Contains(want, c.title) {
			t.Errorf("no figure of %s is on the page", c.name)
		}
	}
	if _, err := withTables("no marks", results); err == nil {
		t.Error("a page without a place for tables was taken")
	}
}
