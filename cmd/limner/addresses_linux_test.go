package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Where Go's runtime could not even start, one sentence says why.
func TestNoAddresses(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `ulimit -v 300000; exec "$0" -test.run=^$`, binary).CombinedOutput()
	if err == nil || strings.Count(string(out), "\n") != 1 ||
		!strings.Contains(string(out), "only 0.3 GB of address space (ulimit -v), want at least 2.1 GB") {
		t.Errorf("%v, said %q", err, out)
	}
}
