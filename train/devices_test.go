package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"limner/data"
	"limner/internal/parity"
	"limner/train/watch"
	"limner/xla"
	"limner/xla/program"
)

// Several devices train as one does, on the same rows in the same order, whether the parameters are divided over them
// or not. Only sums are added up in another order: each is off by less than n·2^-24 of the sum of sizes of its n terms,
// some 1e-5 for a step's gradients. Six steps of AdamW at 1e-3, which turn a gradient's direction into a step of that
// size, leave below 1e-4 of a loss.
func TestSeveralDevices(t *testing.T) {
	model, dataset := smallModel(t), smallDataset(t)
	var one []watch.Progress
	var rows string // of all batches
	for _, c := range []struct {
		devices int
		fsdp    bool
	}{{1, false}, {2, false}, {4, true}, {8, false}} {
		name := fmt.Sprintf("%d devices, fsdp %v", c.devices, c.fsdp)
		o, r, log := smallRun(t, model, dataset)
		o.Batch, o.FSDP, o.GradientCheckpointing = 8, c.fsdp, c.devices == 2
		run, err := newDecoder(context.Background(), devices(t, c.devices), o, r)
		if err != nil {
			t.Fatal(err)
		}
		seen := ""
		feed := run.Feed
		run.Feed = func(batch *data.Batch) (program.Arrays, error) {
			seen += fmt.Sprint(batch.Rows)
			return feed(batch)
		}
		if err := errors.Join(run.Do(context.Background()), run.Close()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		steps, err := watch.ReadMetrics(o.OutputDir)
		if err != nil {
			t.Fatal(err)
		}
		if one == nil {
			one, rows = steps, seen
		}
		if seen != rows {
			t.Errorf("%s: rows %s, on one device %s", name, seen, rows)
		}
		for i, p := range steps {
			if math.Abs(p.Loss-one[i].Loss) > 1e-4*one[i].Loss {
				t.Errorf("%s: step %d: loss %g, on one device %g", name, i+1, p.Loss, one[i].Loss)
			}
		}
		if want := fmt.Sprintf("global batch 8, per-device batch %d, devices %d",
			8/c.devices, c.devices); !strings.Contains(log.String(), want) {
			t.Errorf("%s: the log lacks %q:\n%s", name, want, log)
		}
	}
}

// devices opens CPU devices for a test.
func devices(t *testing.T, n int) *xla.Backend {
	t.Helper()
	return openFor(t, parity.Options(n))
}

// openFor opens a backend for a test.
func openFor(t *testing.T, o xla.Options) *xla.Backend {
	t.Helper()
	b, err := xla.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// A checkpoint of four devices is gone on from on one, and the other way round; the state is the same to the bit, and a
// batch that does not divide is refused.
func TestOtherNumberOfDevices(t *testing.T) {
	model, dataset := smallModel(t), smallDataset(t)
	o, r, log := smallRun(t, model, dataset)
	o.ResumeFromCheckpoint, o.CheckpointingSteps = "latest", 100
	backends := map[int]*xla.Backend{1: parity.Backend(t), 4: devices(t, 4)}
	for i, n := range []int{4, 1, 4} {
		o.MaxTrainSteps = 2 * (i + 1)
		if err := do(t, context.Background(), backends[n], newDecoder, o, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"num_devices: checkpoint has 4, the run has 1", "num_devices: checkpoint has 1, the run has 4",
		"going on from " + filepath.Join(o.OutputDir, "checkpoint-4"),
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	o.Batch, o.OutputDir = 6, t.TempDir()
	if _, err := NewControlNet(context.Background(), backends[4], o, r); err == nil ||
		!strings.Contains(err.Error(), "batch 6 does not divide over 4 devices") {
		t.Errorf("batch 6 on 4 devices: got %v", err)
	}
}
