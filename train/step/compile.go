package step

import (
	"context"
	"errors"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
	"golang.org/x/sync/errgroup"

	"limner/models/nn"
	"limner/train/loss"
	"limner/xla"
	"limner/xla/program"
)

// Compile compiles the step. It fails with a TooLarge where that takes more memory than it may.
func Compile(ctx context.Context, b *xla.Backend, o loss.Objective, settings Settings) (*Step, error) {
	s := Describe(b, o, settings)
	var programs errgroup.Group
	for _, compile := range []func(context.Context) error{s.compileAhead, s.compileGradients, s.compileStep} {
		programs.Go(func() error { return compile(ctx) })
	}
	if err := programs.Wait(); err != nil {
		return nil, err
	}
	return s, s.checkMemory()
}

// compileAhead compiles the program ahead of the step, if there is one.
func (s *Step) compileAhead(ctx context.Context) (err error) {
	a := s.objective.Ahead
	if a == nil {
		return nil
	}
	f := program.Function{Name: "ahead_of_" + s.objective.Name, Apart: true, State: s.objective.Batch[:1]}
	f.Inputs = append(s.frozenValues(a.Frozen), a.Input, scalarValue(inputRow, dtypes.Int32))
	f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		row, fed, encoded := in.Get(inputRow), in.Get(a.Input.Name), f.State[0].Name
		at := func(x *Node) []*Node {
			return append([]*Node{row}, slices.Repeat([]*Node{ZerosLike(row)}, x.Rank()-1)...)
		}
		one := DynamicSlice(fed, at(fed), append([]int{1}, fed.Shape().Dimensions[1:]...))
		one = a.Build(program.BindForward(s.backend, a.Frozen, in), one)
		all := in.Get(encoded)
		return program.Nodes{encoded: DynamicUpdateSlice(all, one, at(all))}, nil
	}
	s.ahead, err = program.Compile(ctx, s.backend, f)
	return err
}

// compileGradients compiles the program of the networks, where that is not the step's.
func (s *Step) compileGradients(ctx context.Context) (err error) {
	if !s.InTwo {
		return nil
	}
	o := s.objective
	f := program.Function{Name: "gradients_" + o.Name, Build: s.buildGradients, Announce: s.Announce}
	f.Outputs = []xla.Value{{Name: outputLoss}}
	if sums := s.sumValues(); s.Accumulation > 1 {
		f.State = sums
	} else {
		f.Outputs = append(sums, f.Outputs...)
	}
	f.Inputs = append(append(s.parameterValues(), s.batchValues()...), scalarValue(inputBatch, dtypes.Uint32))
	f.Inputs = append(f.Inputs, s.drawValues()...)
	s.gradients, err = program.Compile(ctx, s.backend, f)
	return err
}

// compileStep compiles the program that makes the step.
func (s *Step) compileStep(ctx context.Context) (err error) {
	o := s.objective
	f := program.Function{
		Name: "train_" + o.Name, Build: s.buildStep, State: s.stateValues(), Inputs: s.batchValues(),
		Outputs: []xla.Value{{Name: outputLoss}, {Name: outputGradNorm}}, Announce: s.Announce,
	}
	if s.InTwo {
		f.Name, f.Build, f.Inputs, f.Announce = "apply_"+o.Name, s.buildApply, s.sumValues(), nil
	}
	f.Inputs = append(f.Inputs, xla.Value{
		Name: inputRates, Shape: shapes.Make(dtypes.Float32, 1+len(s.method.Rates(1, 1))),
	})
	f.Inputs = append(f.Inputs, s.drawValues()...)
	s.program, err = program.Compile(ctx, s.backend, f)
	return err
}

// CompileAndLoad has a step compiled and meanwhile puts what it keeps on the devices, see load: much of compiling is
// the work of one core. described is the step before it is compiled. Once ctx is done both end.
func CompileAndLoad(ctx context.Context, described *Step, compile func() (*Step, error),
	weights func() (nn.Source, Saved)) (*Step, error) {
	loading := make(chan error, 1)
	go func() {
		from, state := weights()
		loading <- described.Load(ctx, nn.Until(ctx, from), state)
	}()
	s, err := compile()
	// where compiling fails too it says why: loading may just have met the same lack of memory
	if failed := <-loading; err == nil {
		err = failed
	}
	if err != nil {
		return nil, errors.Join(err, described.Free())
	}
	s.state, s.slots, s.sums = described.state, described.slots, described.sums
	s.frozen, s.encoded = described.frozen, described.encoded
	return s, nil
}
