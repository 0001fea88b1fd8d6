package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/dtypes/bfloat16"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/xla"
)

// stepper holds the compiled training step and its state on the devices.
type stepper struct {
	backend   *xla.Backend
	program   *xla.Program
	objective Objective
	optimizer AdamW
	ema       bool
	state     []*xla.Array // parameters, first moments, second moments and averages, each in the tree's order
	frozen    []*xla.Array
	seed      *xla.Array
}

// groups names the parts of the state, in order.
func groups(ema bool) []string {
	if ema {
		return []string{"param", "exp_avg", "exp_avg_sq", "ema"}
	}
	return []string{"param", "exp_avg", "exp_avg_sq"}
}

// newStepper compiles the step.
func newStepper(ctx context.Context, b *xla.Backend, o Objective, optimizer AdamW, ema bool) (*stepper, error) {
	s := &stepper{backend: b, objective: o, optimizer: optimizer, ema: ema}
	f := xla.Function{Name: "train_" + o.Name, Build: s.build}
	for _, group := range groups(ema) {
		for _, spec := range o.Trainable {
			f.State = append(f.State, xla.Value{Name: group + "." + spec.Key, Shape: shapes.Make(dtypes.Float32, spec.Shape...)})
		}
	}
	for _, spec := range o.Frozen {
		f.Inputs = append(f.Inputs, xla.Value{Name: spec.Key, Shape: shapes.Make(o.Compute, spec.Shape...)})
	}
	f.Inputs = append(f.Inputs, o.Batch...)
	f.Inputs = append(f.Inputs,
		xla.Value{Name: "rates", Shape: shapes.Make(dtypes.Float32, rateCount)},
		xla.Value{Name: "seed", Shape: shapes.Make(dtypes.Uint64)},
		xla.Value{Name: "step", Shape: shapes.Make(dtypes.Uint64)})
	var err error
	s.program, err = b.Compile(ctx, f)
	return s, err
}

// plant puts the seed of random draws on the devices.
func (s *stepper) plant(seed uint64) (err error) {
	s.seed, err = xla.Put(s.backend, []uint64{seed}, xla.Replicated)
	return err
}

func (s *stepper) build(g *Graph, state, inputs []*Node) (next, outputs []*Node) {
	o := s.objective
	n, frozen := len(o.Trainable), len(o.Frozen)
	params, m, v := state[:n], state[n:2*n], state[2*n:3*n]
	batch := inputs[frozen : frozen+len(o.Batch)]
	rates, draw := inputs[frozen+len(o.Batch)], Draws{seed: inputs[len(inputs)-2], step: inputs[len(inputs)-1]}
	var rate [rateCount]*Node
	for i := range rate {
		rate[i] = Reshape(Slice(rates, AxisElem(i)))
	}

	loss := o.Loss(nn.Bind(o.Trainable, params), nn.Bind(o.Frozen, inputs[:frozen]), batch, draw)
	grads, norm := s.optimizer.clip(Gradient(loss, params...))
	next = make([]*Node, len(state))
	for i, grad := range grads {
		next[i], next[n+i], next[2*n+i] = s.optimizer.update(params[i], m[i], v[i], grad, rate[0], rate[1], rate[2])
		if s.ema {
			average := state[3*n+i]
			next[3*n+i] = Add(next[i], Mul(rate[3], Sub(average, next[i])))
		}
	}
	return next, []*Node{loss, norm}
}

// load puts the parameters on the devices, with moments of zero and averages equal to the parameters.
func (s *stepper) load(trainable, frozen nn.Values) error {
	values := nn.Values{}
	for _, group := range groups(s.ema) {
		for _, spec := range s.objective.Trainable {
			switch data := trainable[spec.Key]; group {
			case "param", "ema":
				values[group+"."+spec.Key] = data
			default:
				values[group+"."+spec.Key] = make([]float32, spec.Size())
			}
		}
	}
	if err := s.restore(values); err != nil {
		return err
	}
	for _, spec := range s.objective.Frozen {
		a, err := putAs(s.backend, s.objective.Compute, frozen[spec.Key], spec.Shape...)
		if err != nil {
			return fmt.Errorf("%s: %w", spec.Key, err)
		}
		s.frozen = append(s.frozen, a)
	}
	return nil
}

// putAs puts values on the devices in the given dtype.
func putAs(b *xla.Backend, dtype dtypes.DType, data []float32, dims ...int) (*xla.Array, error) {
	if dtype != dtypes.BFloat16 {
		return xla.Put(b, data, xla.Replicated, dims...)
	}
	half := make([]bfloat16.BFloat16, len(data))
	for i, v := range data {
		half[i] = bfloat16.FromBits(checkpoint.BFloat16Bits(v)) // FromFloat32 would cut instead of rounding
	}
	return xla.Put(b, half, xla.Replicated, dims...)
}

// restore replaces the state by values, whose keys are "group.key".
func (s *stepper) restore(values nn.Values) error {
	for _, a := range s.state {
		if err := a.Free(); err != nil {
			return err
		}
	}
	s.state = nil
	for _, group := range groups(s.ema) {
		for _, spec := range s.objective.Trainable {
			a, err := xla.Put(s.backend, values[group+"."+spec.Key], xla.Replicated, spec.Shape...)
			if err != nil {
				return fmt.Errorf("%s.%s: %w", group, spec.Key, err)
			}
			s.state = append(s.state, a)
		}
	}
	return nil
}

// free releases everything that the step holds on the devices.
func (s *stepper) free() error {
	for _, a := range slices.Concat(s.state, s.frozen, []*xla.Array{s.seed}) {
		if err := a.Free(); err != nil {
			return err
		}
	}
	return nil
}

// snapshot copies the state to the host.
func (s *stepper) snapshot() (nn.Values, error) {
	values := nn.Values{}
	i := 0
	for _, group := range groups(s.ema) {
		for _, spec := range s.objective.Trainable {
			data, err := xla.Get[float32](s.state[i])
			if err != nil {
				return nil, err
			}
			values[group+"."+spec.Key] = data
			i++
		}
	}
	return values, nil
}

// run makes optimizer step n, counted from 1, on a batch that lies on the devices, and frees the batch.
func (s *stepper) run(batch []*xla.Array, n int, r rates) (loss, gradNorm float32, err error) {
	args := append(append([]*xla.Array{}, s.frozen...), batch...)
	vector, err := xla.Put(s.backend, s.optimizer.vector(r, n), xla.Replicated, rateCount)
	if err != nil {
		return 0, 0, err
	}
	step, err := xla.Put(s.backend, []uint64{uint64(n)}, xla.Replicated)
	if err != nil {
		return 0, 0, err
	}
	out, err := s.program.Run(s.state, append(args, vector, s.seed, step)...)
	if err != nil {
		return 0, 0, err
	}
	results := [2]float32{}
	for i, a := range out {
		x, err := xla.Get[float32](a)
		if err != nil {
			return 0, 0, err
		}
		results[i] = x[0]
	}
	for _, a := range append(append(out, vector, step), batch...) {
		if err := a.Free(); err != nil {
			return 0, 0, err
		}
	}
	return results[0], results[1], nil
}

// Step is the compiled training step by itself, for those who bring their own batches instead of the dataset,
// checkpoints and metrics of a Run.
type Step struct{ stepper *stepper }

// CompileStep compiles the step of an objective, without an average of the weights.
func CompileStep(ctx context.Context, b *xla.Backend, o Objective, optimizer AdamW, seed uint64) (*Step, error) {
	s, err := newStepper(ctx, b, o, optimizer, false)
	if err != nil {
		return nil, err
	}
	return &Step{s}, s.plant(seed)
}

// Load puts the parameters on the devices, with moments of zero.
func (s *Step) Load(trainable, frozen nn.Values) error { return s.stepper.load(trainable, frozen) }

// Run makes optimizer step n, counted from 1, on a batch that lies on the devices, and frees the batch. It returns the
// loss and the gradients' global norm before clipping.
func (s *Step) Run(batch []*xla.Array, n int, learningRate float64) (loss, gradNorm float32, err error) {
	return s.stepper.run(batch, n, rates{learningRate: learningRate})
}

// Program is what was compiled: its time, memory and text.
func (s *Step) Program() *xla.Program { return s.stepper.program }
