package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/internal/parity"
)

// A save that fails in the background ends the run, with the checkpoints before it whole, and the run goes on when that is mended.
func TestFailedSave(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	o, r, log := smallRun(t, model, dataset)
	inTheWay := filepath.Join(o.OutputDir, checkpointName(4))
	r.OnStep = func(p Progress) {
		if p.Step == 3 {
			if err := os.WriteFile(inTheWay, nil, 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	err := do(t, context.Background(), b, newDecoder, o, r)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"save checkpoint-4: ", inTheWay, "the checkpoints before checkpoint-4 are whole: mend that, then go on with --resume_from_checkpoint latest"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := VerifyCheckpoint(filepath.Join(o.OutputDir, checkpointName(2))); err != nil {
		t.Error(err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	r.OnStep, o.ResumeFromCheckpoint = nil, "latest"
	if err := do(t, context.Background(), b, newDecoder, o, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"going on from " + filepath.Join(o.OutputDir, checkpointName(2)), "checkpoint-6 saved in "} {
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
	if want := "while compiling, at step 6: nothing was lost, the same command goes on from there"; !errors.Is(err, ErrInterrupted) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if after := files(t, o.OutputDir); len(after) != len(before) {
		t.Errorf("%d files, want the %d there were", len(after), len(before))
	}

	// Without a checkpoint that can be read there is nothing to go on from, and starting anew would write over them.
	names, err := Checkpoints(o.OutputDir)
	if err != nil || len(names) != 3 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(o.OutputDir, name, manifestName)); err != nil {
			t.Fatal(err)
		}
	}
	if err := do(t, context.Background(), b, newDecoder, o, r); err == nil || !strings.Contains(err.Error(), "every checkpoint in "+o.OutputDir+" is damaged") {
		t.Errorf("got %v", err)
	}
}
