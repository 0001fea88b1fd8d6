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
	want := []string{
		"training: 11 of 20, loss 0.5", "training: 15 of 20, loss 0.5, 10 s left", "training: 20 of 20, loss 0.5", "",
	}
	if got := strings.Split(string(raw), "\n"); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestProgressLinesThinOut: after the first minutes a line a minute is enough for a log.
func TestProgressLinesThinOut(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := newProgress(f, "training")
	p.Step(0, 1000, "")
	p.begun = p.begun.Add(-firstMinutes)
	for step := 1; step <= 700; step++ { // one a second
		p.begun, p.printed = p.begun.Add(-time.Second), p.printed.Add(-time.Second)
		p.Step(step, 1000, "")
	}
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "\n"); n != 1+700/60 {
		t.Errorf("%d lines of 700 s, want %d:\n%s", n, 1+700/60, raw)
	}
}

func TestFitting(t *testing.T) {
	const fields = "loss 0.1234 lr 1e-05 images_per_s 3.1"
	for room, want := range map[int]string{
		80: "training, 1 h 02 min left, loss 0.1234 lr 1e-05 images_per_s 3.1",
		50: "training, 1 h 02 min left, loss 0.1234 lr 1e-05",
		40: "training, 1 h 02 min left, loss 0.1234",
		30: "1 h 02 min left, loss 0.1234",
		10: "1 h 02 min",
	} {
		if got := fitting(room, "training", "1 h 02 min left", fields); got != want {
			t.Errorf("%d columns: got %q, want %q", room, got, want)
		}
	}
	if got := fitting(60, "downloading", "", "unet/model.safetensors"); got != "downloading, unet/model.safetensors" {
		t.Errorf("got %q", got)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1499 * time.Millisecond: "1 s", 61 * time.Second: "1 min 01 s",
		3*time.Hour + 125*time.Second: "3 h 02 min",
	} {
		if got := duration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
