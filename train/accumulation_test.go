package train

import (
	"context"
	"math"
	"strings"
	"testing"

	"limner/internal/parity"
	"limner/train/optim"
	"limner/train/watch"
	"limner/xla"
)

// runOf trains a small model and returns its metrics.
func runOf(t *testing.T, prepare prepare, o Options, r Recipe) []watch.Progress {
	t.Helper()
	if err := do(t, context.Background(), parity.Backend(t), prepare, o, r); err != nil {
		t.Fatal(err)
	}
	steps, err := watch.ReadMetrics(o.OutputDir)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// Three batches of two images make the steps of one batch of six, over two epochs of three steps and two rows that make
// none: the same rows, captions and random numbers, and sums in another order. Those differ by some 1e-7 of a number,
// which six steps at 1e-3 leave below 1e-4 of a loss.
func TestAccumulationIsALargeBatch(t *testing.T) {
	model, dataset := smallModel(t), smallDataset(t)
	o, r, _ := smallRun(t, model, dataset)
	o.Batch, o.MaxTrainSteps, o.NumTrainEpochs = 6, 0, 2
	large := runOf(t, NewTextToImage, o, r)

	o, r, log := smallRun(t, model, dataset)
	o.Batch, o.Accumulation, o.MaxTrainSteps, o.NumTrainEpochs = 2, 3, 0, 2
	small := runOf(t, NewTextToImage, o, r)
	if len(large) != 6 || len(small) != 6 {
		t.Fatalf("two epochs of 20 rows in steps of 6 images are 6 steps: got %d in large batches, %d in small ones",
			len(large), len(small))
	}
	for i := range large {
		if large[i].Epoch != i/3 || small[i].Epoch != i/3 || large[i].Images != 6*(i+1) || small[i].Images != 6*(i+1) {
			t.Errorf("step %d: got %+v in large batches, %+v in small ones", i+1, large[i], small[i])
		}
		if math.Abs(large[i].Loss-small[i].Loss) > 1e-4*large[i].Loss ||
			math.Abs(large[i].GradNorm-small[i].GradNorm) > 1e-3*large[i].GradNorm {
			t.Errorf("step %d: got %+v in large batches, %+v in small ones", i+1, large[i], small[i])
		}
	}
	if math.Abs(large[0].GradNorm-small[0].GradNorm) > 1e-5*large[0].GradNorm {
		t.Errorf("the first gradients' norm is %g in large batches, %g in small ones",
			large[0].GradNorm, small[0].GradNorm)
	}
	if want := "global batch 2, per-device batch 2, devices 1, accumulation 3, " +
		"6 images a step"; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, log)
	}
}

// A run with accumulation, and moments that are rounded by chance, goes on to the same bits.
func TestResumeWithAccumulation(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	settings := func() (Options, Recipe) {
		o, r, _ := smallRun(t, model, dataset)
		o.Batch, o.Accumulation, o.MaxTrainSteps, o.MaxTrainImages = 2, 3, 0, 31
		o.Optimizer.Moments = optim.MomentsBFloat16
		return o, r
	}
	o, r := settings()
	first, err := newDecoder(context.Background(), b, o, r)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := first.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	once := func(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
		run, err := newDecoder(ctx, b, o, r)
		if err == nil {
			run.compiled = first.compiled
		}
		return run, err
	}
	if steps := readSteps(t, o.OutputDir); steps[5].Images != 36 {
		t.Fatalf("31 images in steps of 6 are 6 steps: got %+v", steps)
	}
	whole := files(t, o.OutputDir)

	o, r = settings()
	interrupt(t, b, once, o, r)
	o.ResumeFromCheckpoint = "latest"
	if err := do(t, context.Background(), b, once, o, r); err != nil {
		t.Fatal(err)
	}
	resumed := files(t, o.OutputDir)
	for path, want := range whole {
		if got, ok := resumed[path]; !ok || got != want {
			t.Errorf("%s differs after an interruption (present: %v)", path, ok)
		}
	}
}

func TestTooMuchAccumulation(t *testing.T) {
	o, r, _ := smallRun(t, smallModel(t), smallDataset(t))
	o.Accumulation = 6
	err := do(t, context.Background(), parity.Backend(t), newDecoder, o, r)
	if err == nil ||
		!strings.Contains(err.Error(), "gradient_accumulation_steps: 6 batches of 4 are more than the 20 rows") {
		t.Errorf("got %v", err)
	}
}
