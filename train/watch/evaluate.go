package watch

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/train/loss"
	"limner/xla"
	"limner/xla/program"
)

// evaluationRanges is how many ranges of timesteps have a loss of their own.
const evaluationRanges = 4

// evaluationSeed begins the draws of an evaluation. They are the same every time, so that losses can be compared,
// within a run and between runs.
const evaluationSeed = 0x76616c6964

// The names of an evaluation's arrays beside the objective's.
const (
	inputTimesteps = "timesteps"
	inputSeed      = "seed"
	inputStep      = "step" // number of the draw
	outputLoss     = "loss"
)

// evaluator measures the loss of held-out rows, at timesteps and with noise that never change.
type evaluator struct {
	networks Networks
	batches  int
	program  *program.Program
	seed     *xla.Array
}

// newEvaluator measures so many rows, as far as there are whole batches of them.
func newEvaluator(ctx context.Context, networks Networks, rows int) (*evaluator, error) {
	o, b, held := networks.Objective, networks.Backend, networks.Held
	e := &evaluator{networks: networks}
	e.batches = max(1, min(rows/networks.Batch, held.Dataset.StepsPerEpoch()))
	f := program.Function{Name: "evaluate_" + o.Name}
	resident := networks.Step.Resident()
	for _, spec := range slices.Concat(o.Trainable, o.Frozen) {
		a := resident[spec.Key]
		f.Inputs = append(f.Inputs, xla.Value{Name: spec.Key, Shape: a.Shape(), Sharding: a.Sharding()})
	}
	f.Inputs = append(f.Inputs, o.Batch...)
	f.Inputs = append(f.Inputs,
		loss.BatchValue(inputTimesteps, dtypes.Int32, networks.Batch),
		xla.Value{Name: inputSeed, Shape: shapes.Make(dtypes.Uint64)},
		xla.Value{Name: inputStep, Shape: shapes.Make(dtypes.Uint64)})
	f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		bind := func(tree nn.Tree) nn.Params { return program.Bind(b, tree, in.Of(tree)) }
		draw := loss.Draws{Timesteps: in.Get(inputTimesteps), Seed: in.Get(inputSeed), Step: in.Get(inputStep)}
		return nil, program.Nodes{outputLoss: held.Loss(bind(o.Trainable), bind(o.Frozen), in, draw)}
	}
	f.Announce = networks.Announce("the validation loss")
	var err error
	if e.program, err = program.Compile(ctx, b, f); err != nil {
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
		losses[i] = RangeLoss{
			From: i * held.Timesteps / evaluationRanges, To: (i + 1) * held.Timesteps / evaluationRanges,
		}
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
		if err := fed.Free(); err != nil {
			return nil, err
		}
	}
	return losses, nil
}

// one is the loss of a batch at timesteps of a range. draw numbers what is drawn for it.
func (e *evaluator) one(batch program.Arrays, draw int, within RangeLoss) (float64, error) {
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
	inputs := batch.With(program.Arrays{inputTimesteps: t, inputSeed: e.seed, inputStep: step})
	out, err := e.program.Run(nil, inputs, e.networks.Step.Resident())
	if err != nil {
		return 0, err
	}
	loss, err := program.GetScalar(out[outputLoss])
	return float64(loss), errors.Join(err, out.Free(), t.Free(), step.Free())
}

func (e *evaluator) close() error {
	if e.seed == nil {
		return nil
	}
	return e.seed.Free()
}
