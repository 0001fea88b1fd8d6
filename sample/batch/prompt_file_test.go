package batch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/sample"
)

func TestPromptFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prompts.txt")
	text := "# lines\n\na cat -- or two --n bad, worse --w 512 --h 768 --d 9 --s 28 --l 7.5 " +
		"--ss k_euler_a --g 3 --cn a.png --cn b.png\r\na dog\n a bird --strength 0.5"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := promptFile(path, Settings{Seed: 3, Denoising: sample.Denoising{GuidanceScale: 2}}, 2); err == nil ||
		!strings.Contains(err.Error(), ":3: ") {
		t.Errorf("a switch without a name: got %v", err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(text, "-- or", "or", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("a caf\xe9"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := promptFile(path, Settings{}, 1); err == nil ||
		!strings.Contains(err.Error(), "line 1, byte 6: byte 0xe9 is not UTF-8") {
		t.Errorf("Latin-1: got %v", err)
	}
	if err := os.WriteFile(path, []byte("\xef\xbb\xbf"+strings.Replace(text, "-- or", "or", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	lines, err := promptFile(path, Settings{Seed: 3, Denoising: sample.Denoising{GuidanceScale: 2}}, 2)
	if err != nil || len(lines) != 3 {
		t.Fatalf("got %d lines, %v", len(lines), err)
	}
	d := lines[0]
	if d.Prompt[0] != "a cat or two" || *d.NegativePrompt != "bad, worse" || d.Width != 512 || d.Height != 768 ||
		d.Seed != 9 || d.NumInferenceSteps != 28 ||
		d.GuidanceScale != 7.5 || d.Scheduler != "euler_a" ||
		!slices.Equal(d.ControlImage, []string{"a.png", "b.png"}) {
		t.Errorf("got %+v", d)
	}
	if d := lines[2]; d.Prompt[0] != "a bird" || d.Seed != 7 || *d.Strength != 0.5 || d.GuidanceScale != 2 {
		t.Errorf("got %+v", d)
	}
}

func FuzzPromptLine(f *testing.F) {
	f.Add("a cat --n bad --w 512 --d 18446744073709551615 --l 1e9 --cn x")
	f.Add(" --")
	f.Fuzz(func(t *testing.T, line string) {
		d, err := promptLine(line, Settings{Seed: 1})
		if err == nil && len(d.Prompt) != 1 {
			t.Errorf("%q: %d prompts", line, len(d.Prompt))
		}
	})
}
