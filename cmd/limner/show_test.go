package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"limner/data/imaging"
	"limner/models/checkpoint"
)

// steering is text that would clear a terminal, forge a line, or turn letters around.
const steering = "a\x1b[2J\u009b1A\u202eb\nlimner: all is well\x07"

// steers says whether text that was printed holds any of it.
func steers(text string) bool { return strings.ContainsAny(text, "\x1b\u009b\u202e\x07") }

func TestDescribeIsPrintable(t *testing.T) {
	metadata := map[string]string{}
	for i := range 1000 {
		metadata[fmt.Sprint(steering, i)] = steering + strings.Repeat("x", 100_000)
	}
	d := checkpoint.Description{
		Path: "file" + steering, Metadata: metadata, Reasons: []string{steering},
		Components: []checkpoint.Part{{Name: "unet", Problem: steering}},
		Tensors: []checkpoint.TensorInfo{
			{Key: steering, DType: steering, Shape: make([]int, 100_001)},
			{Key: strings.Repeat("x", 1_000_000), DType: "F32"},
		},
	}
	for _, all := range []bool{false, true} {
		text := describe(d, all)
		if limit := map[bool]int{false: 100_000, true: 2_000_000}[all]; steers(text) ||
			strings.Contains(text, "\nlimner: ") || len(text) > limit {
			t.Errorf("all %v: %d bytes, want at most %d: %.3000q", all, len(text), limit, text)
		}
	}
}

func TestErrorText(t *testing.T) {
	err := errors.Join(errors.New(steering), fmt.Errorf("shape %v", make([]int, 100_001)))
	for range 1000 {
		err = errors.Join(err, errors.New("x"))
	}
	if text := errorText(err); steers(text) || len(text) > 10_000 ||
		!strings.HasSuffix(text, "\n  … and 803 more lines") {
		t.Errorf("got %d bytes: %.3000q", len(text), text)
	}
}

func TestShowImage(t *testing.T) {
	dir := t.TempDir()
	texts := []imaging.Text{
		{Key: imaging.TextParameters, Value: steering + strings.Repeat("猫", 1_000_000)},
		{Key: imaging.TextLimner, Value: `{"a":"` + "\u009b\u202e" + `"}`},
	}
	raw, err := imaging.Encode(imaging.NewRGB(8, 8), "png", texts)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.png"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, _, code := limner(t, dir, "show", "x.png")
	if code != 0 || steers(stdout) || len(stdout) > 2*mostShownText || !strings.Contains(stdout, `a\u001b[2J\u009b1A\u202eb`+"\n  limner: all is well") {
		t.Errorf("exit code %d, %d bytes: %.3000q", code, len(stdout), stdout)
	}
	if stdout, _, code = limner(t, dir, "show", "--json", "x.png"); code != 0 || steers(stdout) ||
		!strings.Contains(stdout, `"a": "\u009b\u202e"`) {
		t.Errorf("exit code %d: %.3000q", code, stdout)
	}
	prompts, err := json.Marshal(map[string]any{
		"sample": map[string]any{"prompt": make([]string, 5000)}, "version": strings.Repeat("v", 1_000_000),
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err = imaging.Encode(imaging.NewRGB(8, 8), "png",
		[]imaging.Text{{Key: imaging.TextLimner, Value: string(prompts)}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "many.png"), raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"show", "many.png"}, {"show", "--json", "many.png"}} {
		stdout, _, code := limner(t, dir, args...)
		if code != 0 || len(stdout) > 3*mostShownString || strings.Count(stdout, "\n") > 50 ||
			!strings.Contains(stdout, "… (4980 more entries)") || !strings.Contains(stdout, "… (996000 more bytes)") {
			t.Errorf("%q: exit code %d, %d bytes: %.3000q", args, code, len(stdout), stdout)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"show", "pipe"}, {"sample", "--model", "m", "--output_dir", "out", "--like", "pipe"},
		{"sample", "--model", "m", "--output_dir", "out", "--prompt_file", "pipe"},
		{"sample", "--model", "m", "--output_dir", "out", "--prompt", "x", "--image", "pipe"},
	} {
		if _, stderr, code := limner(t, dir, args...); code != exitConfig ||
			!strings.Contains(stderr, "not a regular file") {
			t.Errorf("%q: exit code %d, %q", args, code, stderr)
		}
	}
}

// What a model's UNet is for that is not supported, and which of EMA's and the plain weights count, are said.
func TestShowOfUnsupportedModels(t *testing.T) {
	d := checkpoint.Description{
		Kind: checkpoint.KindPipeline, Family: checkpoint.SD1, Variant: checkpoint.Variant(8), EMA: true,
	}
	for _, want := range []string{
		"family    SD 1.x InstructPix2Pix, not supported\n",
		"kind      whole model, with EMA's weights too, which are passed over for the plain ones",
	} {
		if got := describe(d, false); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
