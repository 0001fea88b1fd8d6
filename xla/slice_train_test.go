package xla_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/data/circles"
	"limner/internal/golden"
	"limner/train"
	"limner/train/optim"
	"limner/train/watch"
	"limner/xla"
	"limner/xla/program"
)

// sliceRun is a short training of the decoder of a small VAE, with checkpoints of steps 2 and 4.
func sliceRun(t *testing.T, dataset, dir string) (train.Options, train.Recipe) {
	o := train.DefaultOptions()
	o.OutputDir, o.Batch, o.MaxTrainSteps, o.CheckpointingSteps, o.Seed, o.FSDP = dir, 4, 4, 2, 3, true
	ema := optim.DefaultEMA()
	o.EMA = &ema
	var r train.Recipe
	r.Model, r.Data, r.Reading, r.Resolution = golden.Path(t, "sd15-tiny"), []string{dataset}, data.DefaultReading(), 16
	r.RandomFlip, r.DecoderOnly, r.Compute, r.OnEncode = true, true, dtypes.Float32, func(int, int) {}
	return o, r
}

// process trains on a backend; stop is after which step this process alone is told to stop, 0 for never. rows notes
// those that it was fed.
func process(ctx context.Context, b *xla.Backend, o train.Options, r train.Recipe, stop int, rows *[][]int64) error {
	told, cancel := context.WithCancel(ctx)
	defer cancel()
	run, err := train.NewAutoencoder(b.Bound(ctx), b, o, r)
	if err := b.Together(err); err != nil {
		return err
	}
	feed := run.Feed
	run.Feed = func(batch *data.Batch) (program.Arrays, error) {
		*rows = append(*rows, batch.Rows)
		return feed(batch)
	}
	run.OnStep = func(p watch.Progress) {
		if p.Step == stop {
			cancel()
		}
	}
	return errors.Join(run.Do(told), run.Close())
}

// TestTrainingOnProcesses trains on two processes, of which the second is told to stop after a step, and goes on: both
// stop, and the rows, the checkpoints and the result are those of one process with all devices, to the bit.
func TestTrainingOnProcesses(t *testing.T) {
	dataset := filepath.Join(t.TempDir(), "data")
	c := circles.Default()
	c.Count, c.Size = 10, 16 // two steps an epoch
	if err := circles.Write(t.Context(), c, dataset, nil); err != nil {
		t.Fatal(err)
	}
	// so that the step is compiled once
	whole, err := xla.Open(t.Context(), xla.Options{Devices: 4, Effort: xla.EffortQuick, Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { whole.Close() })
	var wantRows [][]int64
	o, r := sliceRun(t, dataset, filepath.Join(t.TempDir(), "one"))
	if err := process(t.Context(), whole, o, r, 0, &wantRows); err != nil {
		t.Fatal(err)
	}
	want := results(t, o.OutputDir)

	two, r := sliceRun(t, dataset, filepath.Join(t.TempDir(), "two"))
	processes := xla.Processes(whole, 2)
	rows := make([][][]int64, 2)
	for _, stop := range []int{1, 0} {
		var all errgroup.Group
		for i, b := range processes {
			all.Go(func() error {
				own := stop * i // process 1 alone
				if err := process(t.Context(), b, two, r, own, &rows[i]); errors.Is(err, train.ErrInterrupted) !=
					(stop > 0) {
					return fmt.Errorf("process %d, stopped after %d: %w", i, stop, err)
				}
				return nil
			})
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		two.ResumeFromCheckpoint = "latest"
	}
	for i, batch := range wantRows {
		if got := slices.Concat(rows[0][i], rows[1][i]); !slices.Equal(got, batch) {
			t.Errorf("batch %d: rows %v, want %v", i, got, batch)
		}
	}
	got := results(t, two.OutputDir)
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s differs from that of one process", name)
		}
	}
	if len(want) < 6 {
		t.Errorf("got %d files, want two checkpoints and the result", len(want))
	}
}

// results are the weights that a run made.
func results(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".safetensors" {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if filepath.Dir(name) == "checkpoint-1" {
			return err
		}
		raw, err := os.ReadFile(path)
		all[name] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
