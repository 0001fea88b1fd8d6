package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"limner/internal/golden"
)

// -1 draws a seed, once within a command: the recipe that is written has what the run has.
func TestSeedIsDrawn(t *testing.T) {
	flags := []string{
		"controlnet", "--model", "m", "--train_data_dir", "d", "--output_dir", "o",
		"--recipe", writeRecipe(t, "seed: -1"),
	}
	seeds := map[uint64]bool{}
	for _, more := range [][]string{nil, {"--seed", "-1"}, {"--seed=-1"}} {
		command, err := parseTrain(t, append(flags, more...)...)
		if err != nil {
			t.Fatal(err)
		}
		seed := command.Selected().Target.Interface().(trainer).flags().Options.Seed
		text, err := resolvedRecipe(command)
		if err != nil {
			t.Fatal(err)
		}
		if drawnSeed(command) == nil || !strings.Contains(string(text), fmt.Sprintf("\nseed: %d\n", seed)) {
			t.Errorf("%q: the recipe lacks seed %d:\n%s", more, seed, text)
		}
		seeds[seed] = true
	}
	if len(seeds) < 2 { // of three draws of 32 bits
		t.Errorf("got the seeds %v", seeds)
	}
	command, err := parseTrain(t, append(flags, "--seed", "18446744073709551615")...)
	if err != nil {
		t.Fatal(err)
	}
	if got := command.Selected().Target.Interface().(trainer).flags().Options.Seed; got != 1<<64-1 {
		t.Errorf("got %d beside the recipe's -1", got)
	}
}

// A drawn seed is printed and recorded, and a command that goes on keeps it.
func TestSampleWithADrawnSeed(t *testing.T) {
	dir := t.TempDir()
	command := []string{
		"sample", "--model", golden.Path(t, "sd15-tiny"), "--prompt", "a", "--num_inference_steps", "1",
		"--guidance_scale", "1", "--seed", "-1", "--output_dir", "out",
	}
	stdout, stderr, code := limner(t, dir, command...)
	said := regexp.MustCompile(`seed (\d+), drawn for --seed -1\n`).FindStringSubmatch(stderr)
	if code != 0 || said == nil || !strings.Contains(stdout, "  seed "+said[1]+"  a\n") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "out", "sample.json"))
	if err != nil {
		t.Fatal(err)
	}
	var record struct{ Seed json.Number }
	if err := json.Unmarshal(raw, &record); err != nil || record.Seed.String() != said[1] {
		t.Errorf("recorded %s (%v), want %s", record.Seed, err, said[1])
	}
	was := files(t, filepath.Join(dir, "out"))
	_, stderr, code = limner(t, dir, append(command, "--resume")...)
	if want := "seed " + said[1] + ", which this began with\n"; code != 0 || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d\n%s\nwant %q", code, stderr, want)
	}
	if !maps.Equal(was, files(t, filepath.Join(dir, "out"))) {
		t.Error("going on with a finished folder changed it")
	}
}
