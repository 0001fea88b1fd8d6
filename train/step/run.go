package step

import (
	"context"
	"errors"

	"limner/xla"
	"limner/xla/program"
)

// Run makes optimizer step n, counted from 1. next puts the step's batches on the devices, one after another; they are
// freed. Where the loss or the gradients are no finite numbers, the state is as it was and the error is a NotFinite.
func (s *Step) Run(ctx context.Context, n int, r Rates, next func() (program.Arrays, error)) (m Measured, err error) {
	step, err := xla.Put(s.backend, []uint64{uint64(n)}, xla.Replicated)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, step.Free()) }()
	if s.gradients != nil && s.slots != nil {
		go s.slots()
		defer func() { err = errors.Join(err, s.ensureState()) }()
	}
	for i := range s.Accumulation {
		fed, err := next()
		if err != nil {
			return m, err
		}
		batch, err := s.Encode(fed)
		if err != nil {
			return m, errors.Join(err, fed.Free())
		}
		if s.gradients != nil {
			m.Loss, err = s.accumulate(batch, i, step)
			batch = s.sums
		}
		if err == nil && s.Accumulation == 1 {
			m, err = s.finish(batch, n, r, step)
		}
		if s.Accumulation == 1 {
			err = errors.Join(err, s.sums.Free())
			s.sums = nil
		}
		if err == nil && !m.finite() {
			err = s.diagnose(ctx, m, fed, n, i, step)
		}
		if err := errors.Join(err, fed.Free()); err != nil {
			return m, err
		}
	}
	if s.Accumulation > 1 {
		if m, err = s.finish(s.sums, n, r, step); err == nil && !m.finite() {
			err = s.badSum(m, n)
		}
	}
	return m, err
}

// Encode makes a batch of what the feed gave, which stays. The batch holds until the next one is made.
func (s *Step) Encode(fed program.Arrays) (batch program.Arrays, err error) {
	if s.ahead == nil {
		return fed, nil
	}
	name := s.objective.Ahead.Input.Name
	for i := range s.aheadRuns() {
		row, err := xla.Put(s.backend, []int32{int32(i)}, xla.Replicated)
		if err != nil {
			return nil, err
		}
		_, err = s.ahead.Run(s.encoded, program.Arrays{name: fed[name], inputRow: row}, s.frozen)
		if err := errors.Join(err, row.Free()); err != nil {
			return nil, err
		}
	}
	batch = fed.With(s.encoded)
	delete(batch, name)
	return batch, nil
}

// accumulate adds the gradients of the step's batch i to the sums.
func (s *Step) accumulate(batch program.Arrays, i int, step *xla.Array) (loss float32, err error) {
	number, err := xla.Put(s.backend, []uint32{uint32(i)}, xla.Replicated)
	if err != nil {
		return 0, err
	}
	inputs := batch.With(program.Arrays{inputBatch: number, inputSeed: s.seed, inputStep: step})
	out, err := s.gradients.Run(s.sums, inputs, s.state, s.frozen)
	if err != nil {
		return 0, err
	}
	result := out[outputLoss]
	if delete(out, outputLoss); s.Accumulation == 1 {
		s.sums = out
	}
	loss, err = program.GetScalar(result)
	return loss, errors.Join(err, result.Free(), number.Free())
}

// finish makes the step from a batch, or from the sums.
func (s *Step) finish(from program.Arrays, n int, r Rates, step *xla.Array) (m Measured, err error) {
	vector := []float32{float32(r.EMADecay)}
	for _, rate := range s.method.Rates(r.LearningRate, n) {
		vector = append(vector, float32(rate))
	}
	now, err := xla.Put(s.backend, vector, xla.Replicated, len(vector))
	if err != nil {
		return m, err
	}
	if err := s.ensureState(); err != nil {
		return m, err
	}
	inputs := from.With(program.Arrays{inputRates: now, inputSeed: s.seed, inputStep: step})
	out, err := s.program.Run(s.state, inputs, s.frozen)
	if err != nil {
		return m, err
	}
	var first, second error
	m.Loss, first = program.GetScalar(out[outputLoss])
	m.GradNorm, second = program.GetScalar(out[outputGradNorm])
	return m, errors.Join(first, second, out.Free(), now.Free())
}
