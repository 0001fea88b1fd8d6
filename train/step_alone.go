package train

import (
	"context"

	"limner/models/nn"
	"limner/train/folder"
	"limner/train/loss"
	"limner/train/optim"
	"limner/xla"
	"limner/xla/program"
)

// Step is the compiled training step by itself, for those who bring their own batches instead of the dataset,
// checkpoints and metrics of a Run.
type Step struct{ stepper *stepper }

// CompileStep compiles the step of an objective, of one batch and without an average of the weights. Meanwhile weights gives the parameters,
// which are put on the devices with moments of zero.
func CompileStep(ctx context.Context, b *xla.Backend, o loss.Objective, optimizer optim.Optimizer, seed uint64, weights func() nn.Source) (*Step, error) {
	settings := stepSettings{optimizer: optimizer, accumulation: 1, inTwo: b.CPU()}
	compile := func() (*stepper, error) { return newStepper(ctx, b, o, settings) }
	s, err := compileAndLoad(ctx, describeStep(b, o, settings), compile, func() (nn.Source, *folder.Checkpoint) { return weights(), nil })
	if err != nil {
		return nil, err
	}
	return &Step{s}, s.putSeed(seed)
}

// Run makes optimizer step n, counted from 1, on a batch that lies on the devices, and frees the batch. It returns the
// loss and the gradients' global norm before clipping. Where one of them is no finite number the parameters stay, and it fails.
func (s *Step) Run(ctx context.Context, batch program.Arrays, n int, learningRate float64) (loss, gradNorm float32, err error) {
	m, err := s.stepper.run(ctx, n, rates{learningRate: learningRate}, func() (program.Arrays, error) { return batch, nil })
	return m.loss, m.gradNorm, err
}

// Program is what was compiled: its time, memory and text.
func (s *Step) Program() *xla.Program { return s.stepper.program.Program }
