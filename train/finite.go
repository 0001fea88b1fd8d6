package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/train/loss"
	"limner/xla"
)

// notFinite is a step that was not made because its loss or its gradients are no finite numbers.
type notFinite struct {
	step     int
	measured measured
	first    string // what the first bad tensor is
}

func (e *notFinite) Error() string {
	figures := fmt.Sprintf("loss %g", e.measured.loss)
	if e.measured.gradNorm != 0 { // it is not known where the loss of one batch of several is bad
		figures += fmt.Sprintf(", gradient norm %g", e.measured.gradNorm)
	}
	return fmt.Sprintf("step %d is not finite (%s): first in %s", e.step, figures, e.first)
}

// diagnose finds the first tensor of a step's batch i, which the feed gave, that is not finite: in the batch, in the parameters, of what the layers make
// of them, in forward order, or among the gradients. It computes them once more, in a program that is compiled only then.
func (s *stepper) diagnose(ctx context.Context, m measured, fed []*xla.Array, n, i int, step *xla.Array) (err error) {
	trainable, frozen := len(s.objective.Trainable), s.objective.FrozenTree()
	var names []string
	f := xla.Function{
		Name:   "diagnose_" + s.objective.Name,
		Inputs: slices.Concat(s.stateValues()[:trainable], s.frozenValues(frozen), s.objective.FeedValues(), []xla.Value{scalarValue("batch", dtypes.Uint32)}, s.drawValues()),
	}
	f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
		note := func(name string, x *Node) {
			if x.DType().IsFloat() {
				names = append(names, name)
				outputs = append(outputs, ReduceAllMin(ConvertDType(IsFinite(x), dtypes.Float32)))
			}
		}
		batch := trainable + len(frozen)
		for j, value := range s.objective.FeedValues() {
			note("the batch's "+value.Name, in[batch+j])
		}
		for j, node := range in[:batch] {
			note("parameter "+f.Inputs[j].Name, node)
		}
		end := len(in) - 3
		row := MulScalar(in[end], float64(s.objective.Batch[0].Shape.Dim(0)))
		probe := func(path string, x *Node) { note("the output of "+path, x) }
		probed := func(tree nn.Tree, nodes []*Node) nn.Params { return bind(s.backend, tree, nodes).WithProbe(probe) }
		given, ahead := slices.Clone(in[batch:end]), trainable+len(s.objective.Frozen)
		if a := s.objective.Ahead; a != nil {
			given[0] = a.Build(probed(a.Frozen, in[ahead:batch]), given[0])
		}
		loss := s.objective.Loss(probed(s.objective.Trainable, in[:trainable]), probed(s.objective.Frozen, in[trainable:ahead]), given,
			loss.Draws{Seed: in[end+1], Step: in[end+2], Row: row})
		note("the loss", loss)
		for j, grad := range Gradient(loss, in[:trainable]...) {
			note("the gradient of "+s.objective.Trainable[j].Key, grad)
		}
		return nil, outputs
	}
	program, err := s.backend.Compile(ctx, f)
	if err != nil {
		return errors.Join(&notFinite{n, m, "a tensor that was not looked for"}, err)
	}
	number, err := xla.Put(s.backend, []uint32{uint32(i)}, xla.Replicated)
	if err != nil {
		return err
	}
	arrays := slices.Concat(s.state[:trainable], s.frozen, s.encoder, fed, []*xla.Array{number, s.seed, step})
	out, err := program.Run(nil, arrays...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, xla.FreeAll(append(out, number))) }()
	for j, a := range out {
		flag, err := xla.Get[float32](a)
		if err != nil {
			return err
		}
		if flag[0] == 0 {
			return &notFinite{n, m, names[j]}
		}
	}
	return &notFinite{n, m, sumOfSquares}
}

// sumOfSquares is bad where the gradients are finite, but too large for their norm.
const sumOfSquares = "the sum of the gradients' squares"

// badSum names the first sum of gradients that is not finite.
func (s *stepper) badSum(m measured, n int) error {
	for i, spec := range s.objective.Trainable {
		data, err := xla.Get[float32](s.sums[i])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(data, func(x float32) bool { return !finite(x) }) {
			return &notFinite{n, m, "the gradient of " + spec.Key}
		}
	}
	return &notFinite{n, m, sumOfSquares}
}
