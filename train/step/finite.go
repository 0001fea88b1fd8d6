package step

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/xla"
	"limner/xla/program"
)

// NotFinite is a step that was not made because its loss or its gradients are no finite numbers.
type NotFinite struct {
	Step     int
	Measured Measured
	First    string // what the first bad tensor is
}

func (e *NotFinite) Error() string {
	figures := fmt.Sprintf("loss %g", e.Measured.Loss)
	if e.Measured.GradNorm != 0 { // it is not known where the loss of one batch of several is bad
		figures += fmt.Sprintf(", gradient norm %g", e.Measured.GradNorm)
	}
	return fmt.Sprintf("step %d is not finite (%s): first in %s", e.Step, figures, e.First)
}

// diagnose finds the first tensor of a step's batch i, which the feed gave, that is not finite: in the batch, in the
// parameters, of what the layers make of them, in forward order, or among the gradients. It computes them once more, in
// a program that is compiled only then.
func (s *Step) diagnose(ctx context.Context, m Measured, fed program.Arrays, n, i int, step *xla.Array) (err error) {
	o := s.objective
	parameters := append(s.parameterValues(), s.frozenValues(o.FrozenTree())...)
	f := program.Function{
		Name: "diagnose_" + o.Name,
		Inputs: slices.Concat(parameters, o.FeedValues(), []xla.Value{scalarValue(inputBatch, dtypes.Uint32)},
			s.drawValues()),
	}
	f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		outputs = program.Nodes{} // in the order of their names: a number, and what it is
		note := func(name string, x *Node) {
			if x.DType().IsFloat() {
				outputs[fmt.Sprintf("%06d %s", len(outputs), name)] =
					ReduceAllMin(ConvertDType(IsFinite(x), dtypes.Float32))
			}
		}
		for _, v := range o.FeedValues() {
			note("the batch's "+v.Name, in.Get(v.Name))
		}
		for _, v := range parameters {
			note("parameter "+v.Name, in.Get(v.Name))
		}
		draw := draws(in)
		draw.Row = MulScalar(in.Get(inputBatch), float64(o.Batch[0].Shape.Dim(0)))
		probe := func(path string, x *Node) { note("the output of "+path, x) }
		probed := func(tree nn.Tree, nodes []*Node) nn.Params {
			return program.Bind(s.backend, tree, nodes).WithProbe(probe)
		}
		batch := maps.Clone(in)
		if a := o.Ahead; a != nil {
			batch[o.Batch[0].Name] = a.Build(probed(a.Frozen, in.Of(a.Frozen)), in.Get(a.Input.Name))
		}
		params := s.params(in)
		loss := o.Loss(probed(o.Trainable, params), probed(o.Frozen, in.Of(o.Frozen)), batch, draw)
		note("the loss", loss)
		for j, grad := range Gradient(loss, params...) {
			note("the gradient of "+o.Trainable[j].Key, grad)
		}
		return nil, outputs
	}
	diagnosis, err := program.Compile(ctx, s.backend, f)
	if err != nil {
		return errors.Join(&NotFinite{n, m, "a tensor that was not looked for"}, err)
	}
	number, err := xla.Put(s.backend, []uint32{uint32(i)}, xla.Replicated)
	if err != nil {
		return err
	}
	inputs := fed.With(program.Arrays{inputBatch: number, inputSeed: s.seed, inputStep: step})
	out, err := diagnosis.Run(nil, inputs, s.state, s.frozen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Free(), number.Free()) }()
	for _, name := range slices.Sorted(maps.Keys(out)) {
		flag, err := program.GetScalar(out[name])
		if err != nil {
			return err
		}
		if flag == 0 {
			_, first, _ := strings.Cut(name, " ")
			return &NotFinite{n, m, first}
		}
	}
	return &NotFinite{n, m, sumOfSquares}
}

// sumOfSquares is bad where the gradients are finite, but too large for their norm.
const sumOfSquares = "the sum of the gradients' squares"

// badSum names the first sum of gradients that is not finite.
func (s *Step) badSum(m Measured, n int) error {
	for _, spec := range s.objective.Trainable {
		data, err := xla.Get[float32](s.sums[groupSum+"."+spec.Key])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(data, func(x float32) bool { return !finite(x) }) {
			return &NotFinite{n, m, "the gradient of " + spec.Key}
		}
	}
	return &NotFinite{n, m, sumOfSquares}
}
