package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"
)

// buildDir is where limner is built for all tests.
var buildDir string

func TestMain(m *testing.M) { os.Exit(inFolder(m)) }

func inFolder(m *testing.M) int {
	var err error
	if buildDir, err = os.MkdirTemp("", "limner-torture-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(buildDir)
	return m.Run()
}

var built = sync.OnceValues(func() (string, error) {
	limner := filepath.Join(buildDir, "limner")
	if out, err := exec.Command("go", "build", "-o", limner, "limner/cmd/limner").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return limner, nil
})

func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("half a minute of runs")
	}
	limner, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return limner
}

// A small share of what make torture does.
func TestTorture(t *testing.T) {
	report, err := run(context.Background(), options{
		limner: build(t), dir: t.TempDir(), kills: 6, stops: 3, seed: 1, log: t.Output(),
	})
	if err != nil {
		t.Error(err)
	}
	t.Log("\n" + report)
}

func TestBadInput(t *testing.T) {
	tt := &torture{options: options{limner: build(t), dir: t.TempDir()}, rng: rand.New(rand.NewPCG(1, 0))}
	var err error
	if tt.model, tt.dataset, err = prepare(context.Background(), tt.dir); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(tt.dir, "run")
	lock := flock.New(filepath.Join(output, ".limner.lock"))
	for _, c := range []struct {
		name  string
		flags []string
		code  int
		want  []string
	}{
		{
			"a new one", []string{"--max_train_steps", "3"}, 0,
			[]string{"starting at step 0", "compiling the training step", "compiled in", "checkpoint-3 saved in"},
		},
		{"changed", []string{"--seed", "4", "--learning_rate", "2e-3", "--use_ema"}, 78, []string{
			"resume from " + output + "/checkpoint-3: the run is not the one that it would go on with",
			"\n  learning_rate: checkpoint has 0.001, the run has 0.002", "\n  seed: checkpoint has 3, the run has 4",
			"\n  use_ema: checkpoint has false, the run has true",
			"set them back to go on, or start anew with another --output_dir"}},
		{"a schedule of more steps", []string{"--lr_scheduler", "cosine"}, 78, []string{`lr_scheduler: checkpoint has "constant", the run has "cosine"`}},
		{
			"another dataset", []string{"--train_data_dir", filepath.Join(tt.dir, "more")}, 78,
			[]string{"dataset: checkpoint has", "dataset_rows: checkpoint has 20, the run has 42"},
		},
		{"no resuming", []string{"--resume_from_checkpoint", ""}, 78, []string{"holds a run already"}},
		{
			"owned", []string{"owned"}, 78, []string{
				"in use by process 12 on tpu-1, started 2025-11-01T10:00:00Z: limner train",
				"give another --output_dir",
			},
		},
		{"more steps, fewer saves", []string{"--max_train_steps", "5", "--checkpointing_steps", "50"}, 0, []string{
			"going on from " + output + "/checkpoint-3", "loading the training step", "loaded in",
			"checkpoint-5 saved in"}},
		{"done", []string{"--max_train_steps", "5"}, 0, []string{"step 5 of 5 is made: nothing is left to train"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			flags := c.flags
			switch c.name {
			case "another dataset":
				synth := exec.Command(tt.limner, "data", "synth", "circles", "--count", "22", "--size", "16", "--out",
					filepath.Join(tt.dir, "more"))
				if out, err := synth.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			case "owned":
				flags = nil
				owner := `{"pid":12,"host":"tpu-1","started":"2025-11-01T10:00:00Z","command":"limner train"}`
				if err := os.WriteFile(lock.Path(), []byte(owner), 0o644); err != nil {
					t.Fatal(err)
				}
				if held, err := lock.TryLock(); err != nil || !held {
					t.Fatal(held, err)
				}
				defer lock.Close()
			}
			r := &recipe{args: slices.Concat([]string{"vae", "--train_decoder_only"}, flags)}
			p, err := tt.start(r, output)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.wait(); err != nil || p.code() != c.code {
				t.Errorf("ended with %d, want %d (%v)", p.code(), c.code, err)
			}
			for _, want := range c.want {
				if !strings.Contains(p.log(), want) {
					t.Errorf("it does not say %q:\n%s", want, p.log())
				}
			}
		})
	}
	entries, err := os.ReadDir(output)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(entries); strings.Count(got, "checkpoint-") != 2 {
		t.Errorf("the folder holds %v", got)
	}
}
