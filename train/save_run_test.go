package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"limner/internal/parity"
	"limner/train/folder"
	"limner/train/watch"
	"limner/xla"
)

// A save that fails in the background again and again ends the run, with the checkpoints before it whole, and the run
// goes on when that is mended. What else is written does not end it: it is tried again.
func TestFailedSave(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	o, r, log := smallRun(t, model, dataset)
	inTheWay := filepath.Join(o.OutputDir, folder.Name(4))
	r.OnStep = func(p watch.Progress) {
		if p.Step == 3 {
			if err := os.WriteFile(inTheWay, nil, 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	twice := func(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
		run, err := newDecoder(ctx, b, o, r)
		if err == nil {
			run.savePauses = []time.Duration{0}
		}
		return run, err
	}
	err := do(t, context.Background(), b, twice, o, r)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"stopped at step ", "save checkpoint-4: ", inTheWay, "tried 2 times; checkpoint-2 is saved and whole",
		"mend that, then go on with --resume_from_checkpoint latest",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if want := "it is tried again in 0s; checkpoint-2 is saved and whole\n"; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, log)
	}
	if err := folder.Verify(filepath.Join(o.OutputDir, folder.Name(2))); err != nil {
		t.Error(err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	r.Watch = watch.Options{LoggingDir: "logs", ProfileSteps: 1}
	free := blockTelemetry(t, o.OutputDir)
	o.ResumeFromCheckpoint = "latest"
	r.OnStep = func(p watch.Progress) {
		if p.Step == 5 {
			free()
		}
	}
	if err := do(t, context.Background(), b, newDecoder, o, r); err != nil {
		t.Fatal(err)
	}
	r.OnStep = nil
	checkTelemetry(t, o.OutputDir, log.String())
	for _, want := range []string{
		"going on from " + filepath.Join(o.OutputDir, folder.Name(2)), "checkpoint-6 saved in ",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}

	// A signal before the first step leaves everything as it is and says where that is.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := files(t, o.OutputDir)
	o.MaxTrainSteps = 8
	err = do(t, ctx, b, newDecoder, o, r)
	if want := "while compiling, at step 6: nothing was lost, the same command goes on from there"; !errors.Is(err,
		ErrInterrupted) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if after := files(t, o.OutputDir); len(after) != len(before) {
		t.Errorf("%d files, want the %d there were", len(after), len(before))
	}

	// Without a checkpoint that can be read there is nothing to go on from, and starting anew would write over them.
	names, err := folder.Checkpoints(o.OutputDir)
	if err != nil || len(names) != 3 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(o.OutputDir, name, "manifest.json")); err != nil {
			t.Fatal(err)
		}
	}
	if err := do(t, context.Background(), b, newDecoder, o, r); err == nil ||
		!strings.Contains(err.Error(), "every checkpoint in "+o.OutputDir+" is damaged") {
		t.Errorf("got %v", err)
	}
}

// blockTelemetry puts something in the way of all that a run shows of itself, until free.
func blockTelemetry(t *testing.T, dir string) (free func()) {
	t.Helper()
	var blocked []string
	for _, name := range []string{"metrics.jsonl", "diary.html", "profile", "logs"} {
		path := filepath.Join(dir, name)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		block := func() error { return os.WriteFile(path, nil, 0o644) }
		if strings.Contains(name, ".") { // a file
			block = func() error { return os.Mkdir(path, 0o755) }
		}
		if err := block(); err != nil {
			t.Fatal(err)
		}
		blocked = append(blocked, path)
	}
	return func() {
		for _, path := range blocked {
			if err := os.RemoveAll(path); err != nil {
				t.Error(err)
			}
		}
	}
}

// checkTelemetry fails unless what was blocked from step 3 to 5 was said once and is there.
func checkTelemetry(t *testing.T, dir, log string) {
	t.Helper()
	for _, what := range []string{"metrics.jsonl", "TensorBoard's events", "the profile"} {
		if n := strings.Count(log, what+" cannot be written: "); n != 1 {
			t.Errorf("it is said %d times that %s cannot be written:\n%s", n, what, log)
		}
		if n := strings.Count(log, what+" can be written again\n"); n != 1 {
			t.Errorf("it is said %d times that %s can be written again:\n%s", n, what, log)
		}
	}
	steps, err := watch.ReadMetrics(dir)
	if err != nil || len(steps) != 4 || steps[0].Step != 3 || steps[3].Step != 6 {
		t.Errorf("metrics: got %+v, %v, want steps 3 to 6", steps, err)
	}
	written := files(t, dir)
	if _, ok := written[filepath.Join("profile", "trace.json")]; !ok {
		t.Error("no profile")
	}
	if events, err := filepath.Glob(filepath.Join(dir, "logs", "events.*")); err != nil || len(events) != 1 {
		t.Errorf("events: %v, %v", events, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "diary.html")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("diary: %v, %v", info, err)
	}
}
