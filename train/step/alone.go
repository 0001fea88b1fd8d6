package step

import (
	"context"

	"limner/models/nn"
	"limner/train/loss"
	"limner/train/optim"
	"limner/xla"
	"limner/xla/program"
)

// Alone is the compiled training step by itself, for those who bring their own batches instead of the dataset,
// checkpoints and metrics of a Run.
type Alone struct{ step *Step }

// CompileAlone compiles the step of an objective, of one batch and without an average of the weights. Meanwhile weights
// gives the parameters, which are put on the devices with moments of zero.
func CompileAlone(ctx context.Context, b *xla.Backend, o loss.Objective, optimizer optim.Optimizer, seed uint64,
	weights func() nn.Source) (*Alone, error) {
	settings := Settings{Optimizer: optimizer, Accumulation: 1, InTwo: b.CPU()}
	compile := func() (*Step, error) { return Compile(ctx, b, o, settings) }
	s, err := CompileAndLoad(ctx, Describe(b, o, settings), compile, func() (nn.Source, Saved) {
		return weights(), nil
	})
	if err != nil {
		return nil, err
	}
	return &Alone{s}, s.putSeed(seed)
}

// Run makes optimizer step n, counted from 1, on a batch that lies on the devices, and frees the batch. It returns the
// loss and the gradients' global norm before clipping. Where one of them is no finite number the parameters stay, and
// it fails.
func (s *Alone) Run(ctx context.Context, batch program.Arrays, n int,
	learningRate float64) (loss, gradNorm float32, err error) {
	m, err := s.step.Run(ctx, n, Rates{LearningRate: learningRate}, func() (program.Arrays, error) {
		return batch, nil
	})
	return m.Loss, m.GradNorm, err
}

// Program is what was compiled: its time, memory and text.
func (s *Alone) Program() *xla.Program { return s.step.program.Program }
