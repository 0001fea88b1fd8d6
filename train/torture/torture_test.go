package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
)

// A small share of what make torture does.
func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute of runs")
	}
	limner := filepath.Join(t.TempDir(), "limner")
	if out, err := exec.Command("go", "build", "-o", limner, "limner/cmd/limner").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	report, err := run(context.Background(), options{limner: limner, dir: t.TempDir(), kills: 6, stops: 3, seed: 1, log: t.Output()})
	if err != nil {
		t.Error(err)
	}
	t.Log("\n" + report)
}
