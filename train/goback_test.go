package train

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"limner/data"
	"limner/internal/parity"
	"limner/models/nn"
	"limner/train/folder"
	"limner/train/step"
	"limner/train/watch"
	"limner/xla/program"
)

// decoderRun is a small run whose batches of the given indices hold a pixel that is no number. compiled may be nil.
func decoderRun(t *testing.T, compiled *step.Step, o Options, r Recipe, bad ...int) *Run {
	t.Helper()
	run, err := newDecoder(context.Background(), parity.Backend(t), o, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run.Close() })
	run.compiled = compiled
	feed := run.Feed
	run.Feed = func(batch *data.Batch) (program.Arrays, error) {
		for _, index := range bad {
			if batch.Index == index {
				batch.Pixels[5] = float32(math.NaN())
			}
		}
		return feed(batch)
	}
	return run
}

// The tests share a model, a dataset and a step.
func TestNotFinite(t *testing.T) {
	model, dataset := smallModel(t), smallDataset(t)
	compiled := checkGoesBack(t, model, dataset)
	t.Run("only once", func(t *testing.T) { checkGoesBackOnce(t, compiled, model, dataset) })
	t.Run("in one batch of two", func(t *testing.T) { checkGoesBackFromOneOfTwo(t, model, dataset) })
	t.Run("first bad tensor", func(t *testing.T) { checkFirstBad(t, compiled, model, dataset) })
}

// A step that is not finite is not made: the run goes back to its last checkpoint and on with other images, and says
// so.
func checkGoesBack(t *testing.T, model, dataset string) *step.Step {
	t.Helper()
	o, r, log := smallRun(t, model, dataset)
	run := decoderRun(t, nil, o, r, 3)
	if err := run.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := "step 4 is not finite (loss NaN, gradient norm NaN): first in the batch's pixels: " +
		"going back to checkpoint-2 once, and on with other images"
	if !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, log)
	}
	steps, err := watch.ReadMetrics(o.OutputDir)
	if err != nil || len(steps) != 6 {
		t.Fatalf("%d lines of metrics, want 6 (%v)", len(steps), err)
	}
	for i, p := range steps {
		at := 0
		if p.Step == 3 {
			at = 4
		}
		if p.Step != i+1 || p.WentBackAt != at || math.IsNaN(p.Loss) {
			t.Errorf("line %d: got %+v", i+1, p)
		}
	}
	tree := run.Objective.Trainable
	from, state, err := folder.Open(filepath.Join(o.OutputDir, "checkpoint-6"), o.contents(tree, run.Components))
	if err != nil {
		t.Fatal(err)
	}
	values, err := from.Values()
	if err != nil || state.WentBackAt != 4 || state.NextBatch != 8 {
		t.Errorf("got %+v (%v), want batch 8 to be next, and that the run went back at 4", state, err)
	}
	for key, data := range values {
		for _, v := range data {
			if v-v != 0 {
				t.Fatalf("%s is not finite", key)
			}
		}
	}
	return run.compiled
}

// The step of several batches is not made either, and its norm is not known. Of the five batches of an epoch four make
// steps: so batch 6, counted from 0, is of the third.
func checkGoesBackFromOneOfTwo(t *testing.T, model, dataset string) {
	o, r, log := smallRun(t, model, dataset)
	o.Accumulation = 2
	if err := decoderRun(t, nil, o, r, 6).Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if want := "step 3 is not finite (loss NaN): first in the batch's pixels: " +
		"going back to checkpoint-2 once"; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, log)
	}
}

// The second time the run stops, and what it saved is whole.
func checkGoesBackOnce(t *testing.T, compiled *step.Step, model, dataset string) {
	o, r, _ := smallRun(t, model, dataset)
	err := decoderRun(t, compiled, o, r, 3, 4).Do(context.Background())
	if err == nil || !strings.Contains(err.Error(),
		"the run went back once already, from step 4, so it stops: nothing after checkpoint-2 was kept") {
		t.Errorf("got %v", err)
	}
	names, err := folder.Checkpoints(o.OutputDir)
	if err != nil || len(names) != 1 || folder.Verify(filepath.Join(o.OutputDir, names[0])) != nil {
		t.Errorf("got %v, %v, want a whole checkpoint-2", names, err)
	}
}

// The first bad tensor is named in forward order.
func checkFirstBad(t *testing.T, compiled *step.Step, model, dataset string) {
	o, r, _ := smallRun(t, model, dataset)
	run := decoderRun(t, compiled, o, r)
	const key = "vae.decoder.conv_in.weight"
	values := nn.InitValues(run.Objective.Trainable, 1)
	values[key][0] = 3e38 // times anything above 1.2 it is infinite
	run.Weights = run.Weights.(startWeights).with(nn.Values{key: values[key]})
	err := run.Do(context.Background())
	if err == nil || !strings.Contains(err.Error(), "first in the output of vae.decoder.conv_in;") {
		t.Errorf("got %v", err)
	}
}
