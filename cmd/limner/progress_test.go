package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProgressLines(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := newProgress(f, "training")
	for step := 11; step <= 20; step++ {
		if step == 15 { // as if time had passed
			p.begun, p.printed = p.begun.Add(-8*time.Second), p.printed.Add(-lineEvery)
		}
		p.Step(step, 20, "loss 0.5")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"training: 11 of 20, loss 0.5", "training: 15 of 20, loss 0.5, 10 s left", "training: 20 of 20, loss 0.5", ""}
	if got := strings.Split(string(raw), "\n"); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1499 * time.Millisecond: "1 s", 61 * time.Second: "1 min 01 s", 3*time.Hour + 125*time.Second: "3 h 02 min",
	} {
		if got := duration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
