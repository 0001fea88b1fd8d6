package train

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/data"
	"limner/models/nn"
	"limner/train/loss"
	"limner/xla"
)

// Held are rows that training does not see.
type Held struct {
	Dataset   *data.Dataset
	Feed      func(*data.Batch) ([]*xla.Array, error) // as Run's
	Loss      func(trainable, frozen nn.Params, batch []*Node, draw loss.Draws) *Node
	Timesteps int // num_train_timesteps
}

// evaluationRanges is how many ranges of timesteps have a loss of their own.
const evaluationRanges = 4

// evaluationSeed begins the draws of an evaluation. They are the same every time, so that losses can be compared, within a run and
// between runs.
const evaluationSeed = 0x76616c6964

// evaluator measures the loss of held-out rows, at timesteps and with noise that never change.
type evaluator struct {
	held    *Held
	batches int
	batch   int // rows
	program *xla.Program
	seed    *xla.Array
}

func newEvaluator(ctx context.Context, r *Run, s *stepper) (*evaluator, error) {
	o := r.Objective
	e := &evaluator{held: r.Held, batch: r.Options.Batch}
	e.batches = max(1, min(r.Recipe.Watch.Validation.Rows/e.batch, r.Held.Dataset.StepsPerEpoch()))
	f := xla.Function{Name: "evaluate_" + o.Name}
	for i, a := range s.parameters() {
		f.Inputs = append(f.Inputs, xla.Value{Name: fmt.Sprintf("parameter_%d", i), Shape: a.Shape(), Sharding: a.Sharding()})
	}
	f.Inputs = append(f.Inputs, o.Batch...)
	f.Inputs = append(f.Inputs,
		loss.BatchValue("timesteps", dtypes.Int32, e.batch),
		xla.Value{Name: "seed", Shape: shapes.Make(dtypes.Uint64)},
		xla.Value{Name: "step", Shape: shapes.Make(dtypes.Uint64)})
	f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
		n, frozen := len(o.Trainable), len(o.Frozen)
		rest := in[n+frozen:]
		batch, rest := rest[:len(o.Batch)], rest[len(o.Batch):]
		draw := loss.Draws{Timesteps: rest[0], Seed: rest[1], Step: rest[2]}
		return nil, []*Node{r.Held.Loss(bind(r.Backend, o.Trainable, in[:n]), bind(r.Backend, o.Frozen, in[n:n+frozen]), batch, draw)}
	}
	f.Announce = r.announce("the validation loss")
	var err error
	if e.program, err = r.Backend.Compile(ctx, f); err != nil {
		return nil, err
	}
	e.seed, err = xla.Put(r.Backend, []uint64{evaluationSeed}, xla.Replicated)
	return e, err
}

// run measures with the parameters as they are.
func (e *evaluator) run(ctx context.Context, r *Run, s *stepper) ([]RangeLoss, error) {
	batches, err := e.held.Dataset.Batches(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer batches.Close()
	losses := make([]RangeLoss, evaluationRanges)
	for i := range losses {
		losses[i] = RangeLoss{From: i * e.held.Timesteps / evaluationRanges, To: (i + 1) * e.held.Timesteps / evaluationRanges}
	}
	for k := range e.batches {
		batch, err := batches.Next()
		if err != nil {
			return nil, err
		}
		fed, err := e.held.Feed(batch)
		if err != nil {
			return nil, err
		}
		arrays, err := s.encode(fed)
		if err != nil {
			return nil, err
		}
		for i := range losses {
			loss, err := e.one(r, s, arrays, k*evaluationRanges+i, losses[i])
			if err != nil {
				return nil, err
			}
			losses[i].Loss += loss / float64(e.batches)
		}
		if err := freeAll(fed); err != nil {
			return nil, err
		}
	}
	return losses, nil
}

// one is the loss of a batch at timesteps of a range. draw numbers what is drawn for it.
func (e *evaluator) one(r *Run, s *stepper, batch []*xla.Array, draw int, within RangeLoss) (float64, error) {
	rng := rand.New(rand.NewPCG(evaluationSeed, uint64(draw)))
	timesteps := make([]int32, e.batch)
	for i := range timesteps {
		timesteps[i] = int32(within.From + rng.IntN(within.To-within.From))
	}
	t, err := xla.Put(r.Backend, timesteps, xla.Batch, e.batch)
	if err != nil {
		return 0, err
	}
	step, err := xla.Put(r.Backend, []uint64{uint64(draw)}, xla.Replicated)
	if err != nil {
		return 0, err
	}
	args := append(append(s.parameters(), batch...), t, e.seed, step)
	out, err := e.program.Run(nil, args...)
	if err != nil {
		return 0, err
	}
	loss, err := xla.Get[float32](out[0])
	if err != nil {
		return 0, err
	}
	return float64(loss[0]), freeAll(append(out, t, step))
}

func (e *evaluator) close() error {
	if e.seed == nil {
		return nil
	}
	return e.seed.Free()
}
