package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The advice of a command that was stopped.
var (
	saidSame   = regexp.MustCompile(`, the same command (goes on from there|starts again)|: the same command goes on from there`)
	saidResume = regexp.MustCompile(`--resume_from_checkpoint (\S+)`)
)

// A run is stopped in every phase of its life, one after another, each time started again as the message says: so a
// phase is reached only if the advice before it works. In the end it is the run that nothing stopped.
func TestStoppedInEveryPhase(t *testing.T) {
	tt := &torture{options: options{limner: build(t), dir: t.TempDir()}}
	var err error
	if tt.model, tt.dataset, err = prepare(context.Background(), tt.dir); err != nil {
		t.Fatal(err)
	}
	output, resume := filepath.Join(tt.dir, "run"), ""
	start := func(output, resume string) *process {
		r := &recipe{
			args: []string{
				"dreambooth", "--instance_prompt", "red circle", "--with_prior_preservation",
				"--class_prompt", "circle", "--class_data_dir", filepath.Join(tt.dir, "class"), "--num_class_images",
				"12", "--sample_batch_size", "1", "--cache_latents", "--validation_prompt", "blue circle",
				"--num_validation_images", "1", "--validation_inference_steps", "900", "--validation_steps", "10",
				"--max_train_steps", "40", "--checkpoints_total_limit", "9", "--resume_from_checkpoint", resume,
			},
		}
		p, err := tt.start(r, output)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	logged := func(text string) func(*process) bool {
		return func(p *process) bool { return strings.Contains(p.log(), text) }
	}
	saves := func(*process) bool { // or has just done so
		found, err := filepath.Glob(filepath.Join(output, "*checkpoint-5"))
		return err == nil && len(found) > 0
	}
	validates := func(*process) bool { // which comes after the step's line, and takes longer than it
		raw, err := os.ReadFile(filepath.Join(output, "metrics.jsonl"))
		return err == nil && strings.Contains(string(raw), `{"step":30,`)
	}
	for _, phase := range []struct {
		name    string
		reached func(*process) bool
		want    string // of the message, which tells the phase
	}{
		{"opening the devices", mapsPlugin, "before the first step: nothing was lost"},
		{"drawing class images", logged("drawing the class: "), "before the first step: nothing was lost"},
		{"encoding latents", logged("encoding images: "), "nothing was lost"},
		{"compiling", logged("compiling the training step"), "while compiling, at step 0: nothing was lost"},
		{"first steps", logged("training: "), "at step "},
		{"loading", logged("loading the training step"), "nothing was lost"},
		{"first validation", logged("TFLOP for each image"), "while preparing validation, at step 0: nothing was lost"},
		{"saving", saves, "at step "},
		{"validation", validates, "at step 3"},
		{"finishing", logged("checkpoint-40 saved in "), ""},
	} {
		if phase.name == "first validation" { // in a run of its own, of which nobody has said yet that it is to go on
			output, resume = filepath.Join(tt.dir, "another run"), ""
		}
		p := start(output, resume)
		for !p.ended() && !phase.reached(p) {
			time.Sleep(time.Millisecond)
		}
		if p.ended() {
			_ = p.wait()
			t.Fatalf("%s: it ended with %d before that: %s", phase.name, p.code(), p.log())
		}
		if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.wait(); err != nil {
			t.Fatal(err)
		}
		if phase.want == "" { // all is saved: it comes to its end
			if p.code() != 0 {
				t.Errorf("%s: ended with %d: %s", phase.name, p.code(), p.log())
			}
			break
		}
		if p.code() != 75 || !strings.Contains(p.log(), phase.want) {
			t.Fatalf("%s: ended with %d, want 75 and %q: %s", phase.name, p.code(), phase.want, p.log())
		}
		log := p.log()[strings.Index(p.log(), "limner: stopped early"):]
		t.Logf("%s: %s", phase.name, strings.TrimSpace(log))
		if next := saidResume.FindStringSubmatch(log); next != nil {
			resume = next[1]
		} else if !saidSame.MatchString(log) {
			t.Fatalf("%s: it does not say how to go on: %s", phase.name, log)
		}
	}
	undisturbed := filepath.Join(tt.dir, "undisturbed")
	if p := start(undisturbed, ""); p.wait() != nil || p.code() != 0 {
		t.Fatalf("undisturbed: ended with %d: %s", p.code(), p.log())
	}
	compareFolder(t, undisturbed, output, "checkpoint-40")
	compareFolder(t, undisturbed, output, "unet")
}

// mapsPlugin says whether a process has a PJRT plugin in its memory; where the system does not tell, any moment is one.
func mapsPlugin(p *process) bool {
	if _, err := os.Stat("/proc/self/maps"); err != nil {
		return true
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.command.Process.Pid))
	return err == nil && bytes.Contains(bytes.ToLower(maps), []byte("pjrt"))
}

// compareFolder fails unless a folder below two others holds the same files.
func compareFolder(t *testing.T, want, got, name string) {
	t.Helper()
	var trees [2]map[string]string
	for i, dir := range []string{want, got} {
		trees[i] = map[string]string{}
		err := filepath.WalkDir(filepath.Join(dir, name), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			below, _ := filepath.Rel(dir, path)
			trees[i][below] = string(raw)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(trees[0]) == 0 || len(trees[0]) != len(trees[1]) {
		t.Errorf("%s: %d files, want %d", name, len(trees[1]), len(trees[0]))
	}
	for path, content := range trees[0] {
		if trees[1][path] != content {
			t.Errorf("%s is not the same", path)
		}
	}
}
