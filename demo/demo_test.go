package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/internal/parity"
	"limner/models/diffusers"
	"limner/train/watch"
)

func quiet() Hooks {
	return Hooks{Phase: func(string) {}, Step: func(watch.Progress) {}, Count: func(int, int) {}, Log: io.Discard}
}

// names are those of a folder's entries.
func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// The whole demo at its smallest: what it measures means nothing, what it writes is all there.
func TestDemo(t *testing.T) {
	b := parity.Backend(t)
	o := DefaultOptions()
	o.OutputDir = filepath.Join(t.TempDir(), "demo")
	o.Images, o.Steps, o.Batch, o.Cases, o.NumInferenceSteps = 8, 2, 2, 3, 2
	report, err := Do(context.Background(), b, o, quiet())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(o.OutputDir, reportName))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"iou_with", "iou_without", "colour_match", "seconds"} {
		if _, ok := fields[key]; !ok {
			t.Errorf("report.json lacks %s", key)
		}
	}
	for _, name := range []string{gridName, lossName} {
		f, err := os.Open(filepath.Join(o.OutputDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
	if _, _, err := diffusers.OpenControlNet(filepath.Join(o.OutputDir, controlName)); err != nil {
		t.Error(err)
	}
	if text := report.Text(o.OutputDir); !strings.Contains(text, "3 pictures of circles") {
		t.Errorf("the closing text lacks the number of cases:\n%s", text)
	}

	// A finished demo makes room for another, which has its pictures and latents; anything else in the folder does not.
	if err := prepareFolder(o); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, o.OutputDir), []string{dataName, latentsName}; !slices.Equal(got, want) {
		t.Errorf("left of a finished demo is %v, want %v", got, want)
	}
	var log bytes.Buffer
	again := quiet()
	again.Log = &log
	if err := makeDataset(context.Background(), o, again); err != nil {
		t.Fatal(err)
	}
	run, err := prepareControlNet(context.Background(), b, o, again)
	if err != nil {
		t.Fatal(err)
	}
	run.Close()
	if want := "latents: 8 were in " + filepath.Join(o.OutputDir, latentsName) +
		", 0 were encoded"; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, &log)
	}
	// Pictures of other options, or damaged, are drawn anew.
	for name, change := range map[string]func() error{
		"another seed": func() error { o.Seed++; return nil },
		"a lost file": func() error {
			return os.Remove(filepath.Join(o.OutputDir, dataName, "train-00000-of-00001.parquet"))
		},
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.OutputDir, reportName), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := prepareFolder(o); err != nil {
			t.Fatal(err)
		}
		if got, want := names(t, o.OutputDir), []string{latentsName}; !slices.Equal(got, want) {
			t.Errorf("%s: left of a finished demo is %v, want %v", name, got, want)
		}
		if err := makeDataset(context.Background(), o, again); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(o.OutputDir, "thesis.tex"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Do(context.Background(), b, o, quiet()); err == nil || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("a folder of others: got %v", err)
	}
}

func TestShippedBase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "base")
	for range 2 { // the second time it is there
		if err := UnpackBase(dir); err != nil {
			t.Fatal(err)
		}
	}
	model, err := diffusers.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := model.Load(diffusers.UNet, diffusers.VAE, diffusers.TextEncoder); err != nil {
		t.Fatal(err)
	}
	circle := unseen(DefaultOptions().circles(), 1)[0]
	if ids, truncated := model.Tokenizer.EncodePadded(circle.Caption()); truncated || len(ids) != maxTokens {
		t.Errorf("%q makes %d tokens (truncated: %v)", circle.Caption(), len(ids), truncated)
	}
	var record Record
	raw, err := os.ReadFile(filepath.Join(dir, "training.json"))
	if err == nil {
		err = json.Unmarshal(raw, &record)
	}
	if err != nil || record.Options != DefaultBaseOptions() {
		t.Errorf("training.json: got %+v, want the default options (%v)", record.Options, err)
	}
}
