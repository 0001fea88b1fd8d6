package watch

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/train/loss"
	"limner/xla"
)

// evaluationRanges is how many ranges of timesteps have a loss of their own.
const evaluationRanges = 4

// evaluationSeed begins the draws of an evaluation. They are the same every time, so that losses can be compared, within a run and
// between runs.
const evaluationSeed = 0x76616c6964

// evaluator measures the loss of held-out rows, at timesteps and with noise that never change.
type evaluator struct {
	networks Networks
	batches  int
	program  *xla.Program
	seed     *xla.Array
}

// newEvaluator measures so many rows, as far as there are whole batches of them.
func newEvaluator(ctx context.Context, networks Networks, rows int) (*evaluator, error) {
	o, b, held := networks.Objective, networks.Backend, networks.Held
	e := &evaluator{networks: networks}
	e.batches = max(1, min(rows/networks.Batch, held.Dataset.StepsPerEpoch()))
	f := xla.Function{Name: "evaluate_" + o.Name}
	for i, a := range networks.Step.Parameters() {
		f.Inputs = append(f.Inputs, xla.Value{Name: fmt.Sprintf("parameter_%d", i), Shape: a.Shape(), Sharding: a.Sharding()})
	}
	f.Inputs = append(f.Inputs, o.Batch...)
	f.Inputs = append(f.Inputs,
		loss.BatchValue("timesteps", dtypes.Int32, networks.Batch),
		xla.Value{Name: "seed", Shape: shapes.Make(dtypes.Uint64)},
		xla.Value{Name: "step", Shape: shapes.Make(dtypes.Uint64)})
	bind := func(tree nn.Tree, nodes []*Node) nn.Params {
		return nn.Bind(tree, nodes).WithKernels(nn.Kernels{Attention: b.AttentionKernel()})
	}
	f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
		n, frozen := len(o.Trainable), len(o.Frozen)
		rest := in[n+frozen:]
		batch, rest := rest[:len(o.Batch)], rest[len(o.Batch):]
		draw := loss.Draws{Timesteps: rest[0], Seed: rest[1], Step: rest[2]}
		return nil, []*Node{held.Loss(bind(o.Trainable, in[:n]), bind(o.Frozen, in[n:n+frozen]), batch, draw)}
	}
	f.Announce = networks.Announce("the validation loss")
	var err error
	if e.program, err = b.Compile(ctx, f); err != nil {
		return nil, err
	}
	e.seed, err = xla.Put(b, []uint64{evaluationSeed}, xla.Replicated)
	return e, err
}

// run measures with the parameters as they are.
func (e *evaluator) run(ctx context.Context) ([]RangeLoss, error) {
	step, held := e.networks.Step, e.networks.Held
	batches, err := held.Dataset.Batches(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer batches.Close()
	losses := make([]RangeLoss, evaluationRanges)
	for i := range losses {
		losses[i] = RangeLoss{From: i * held.Timesteps / evaluationRanges, To: (i + 1) * held.Timesteps / evaluationRanges}
	}
	for k := range e.batches {
		batch, err := batches.Next()
		if err != nil {
			return nil, err
		}
		fed, err := held.Feed(batch)
		if err != nil {
			return nil, err
		}
		arrays, err := step.Encode(fed)
		if err != nil {
			return nil, err
		}
		for i := range losses {
			loss, err := e.one(arrays, k*evaluationRanges+i, losses[i])
			if err != nil {
				return nil, err
			}
			losses[i].Loss += loss / float64(e.batches)
		}
		if err := xla.FreeAll(fed); err != nil {
			return nil, err
		}
	}
	return losses, nil
}

// one is the loss of a batch at timesteps of a range. draw numbers what is drawn for it.
func (e *evaluator) one(batch []*xla.Array, draw int, within RangeLoss) (float64, error) {
	b := e.networks.Backend
	rng := rand.New(rand.NewPCG(evaluationSeed, uint64(draw)))
	timesteps := make([]int32, e.networks.Batch)
	for i := range timesteps {
		timesteps[i] = int32(within.From + rng.IntN(within.To-within.From))
	}
	t, err := xla.Put(b, timesteps, xla.Batch, e.networks.Batch)
	if err != nil {
		return 0, err
	}
	step, err := xla.Put(b, []uint64{uint64(draw)}, xla.Replicated)
	if err != nil {
		return 0, err
	}
	args := append(append(e.networks.Step.Parameters(), batch...), t, e.seed, step)
	out, err := e.program.Run(nil, args...)
	if err != nil {
		return 0, err
	}
	loss, err := xla.Get[float32](out[0])
	if err != nil {
		return 0, err
	}
	return float64(loss[0]), xla.FreeAll(append(out, t, step))
}

func (e *evaluator) close() error {
	if e.seed == nil {
		return nil
	}
	return e.seed.Free()
}
