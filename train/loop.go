package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"time"

	"limner/data"
	"limner/models/nn"
	"limner/xla"
)

// ErrInterrupted says that a run was stopped early with everything saved.
var ErrInterrupted = errors.New("stopped early")

// Run is a training run.
type Run struct {
	Options    Options
	Backend    *xla.Backend
	Objective  Objective
	Components []Component // the trainable networks
	Trainable  nn.Values   // starting values, below the components' names
	Frozen     nn.Values
	Dataset    *data.Dataset
	Feed       func(*data.Batch) ([]*xla.Array, error) // puts a batch on the devices, in the objective's order
	Finish     func(trained nn.Values) error           // publishes the result
	OnStep     func(Progress)
	Log        io.Writer // hears what a person may want to know; nil: silence
}

// Do trains until the last step, or until ctx is cancelled: then it saves a checkpoint and returns an error that wraps
// ErrInterrupted. The result depends on the options, the starting values and the dataset alone, however often the run was
// interrupted and resumed.
func (r *Run) Do(ctx context.Context) error {
	o := r.Options
	if err := o.Validate(); err != nil {
		return err
	}
	steps := o.MaxTrainSteps
	if steps == 0 {
		steps = o.NumTrainEpochs * r.Dataset.StepsPerEpoch()
	}
	if o.Schedule.Steps == 0 {
		o.Schedule.Steps = steps
	}
	if err := prepareOutput(o); err != nil {
		return err
	}
	state := State{Seed: o.Seed, Batch: o.Batch, Rows: r.Dataset.Len(), Objective: r.Objective.Name, EMA: o.EMA != nil}
	restored, err := r.resume(&state)
	if err != nil {
		return err
	}
	r.logf("compiling the training step (%s, %d parameters, batch %d)", r.Objective.Name, r.Objective.Trainable.Size(), o.Batch)
	s, err := newStepper(ctx, r.Backend, r.Objective, o.Optimizer, o.EMA != nil, o.Seed)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w while compiling, nothing was lost: run again to go on", ErrInterrupted)
	} else if err != nil {
		return err
	}
	r.logf("compiled in %.1f s", s.program.CompileTime.Seconds())
	if err := s.load(r.Trainable, r.Frozen); err != nil {
		return err
	}
	if restored != nil {
		if err := s.restore(restored); err != nil {
			return err
		}
	}
	if err := r.steps(ctx, s, &state, steps, o); err != nil {
		return err
	}
	values, err := s.snapshot()
	if err != nil {
		return err
	}
	group := "param"
	if state.EMA {
		group = "ema"
	}
	return errors.Join(s.free(), r.Finish(values.Within(group)))
}

func (r *Run) logf(format string, args ...any) {
	if r.Log != nil {
		fmt.Fprintf(r.Log, format+"\n", args...)
	}
}

// Close closes the dataset.
func (r *Run) Close() error { return r.Dataset.Close() }

// resume looks for the checkpoint to go on from. Damaged ones are named and the one before is used.
func (r *Run) resume(state *State) (nn.Values, error) {
	o := r.Options
	if o.ResumeFromCheckpoint == "" {
		return nil, nil
	}
	names := []string{filepath.Base(o.ResumeFromCheckpoint)}
	if o.ResumeFromCheckpoint == "latest" {
		var err error
		if names, err = checkpoints(o.OutputDir); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		dir := filepath.Join(o.OutputDir, name)
		found, values, err := loadCheckpoint(dir, r.Objective.Trainable, r.Components)
		if err != nil && o.ResumeFromCheckpoint == "latest" {
			r.logf("checkpoint %s is damaged and passed over: %v", dir, err)
			continue
		} else if err != nil {
			return nil, fmt.Errorf("resume from %s: %w", dir, err)
		}
		if err := found.compatible(*state); err != nil {
			return nil, fmt.Errorf("resume from %s: %w", dir, err)
		}
		*state = found
		r.logf("going on from %s", dir)
		return values, nil
	}
	r.logf("no checkpoint to go on from: starting at step 0")
	return nil, nil
}

// steps runs the loop proper from state.Step to steps.
func (r *Run) steps(ctx context.Context, s *stepper, state *State, steps int, o Options) (err error) {
	m, err := openMetrics(o.OutputDir, state.Step)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	batches, err := r.Dataset.Batches(context.WithoutCancel(ctx), state.Step)
	if err != nil {
		return err
	}
	defer batches.Close()
	saved, start, first := state.Step, time.Now(), state.Step
	for state.Step < steps {
		if ctx.Err() != nil {
			return r.interrupted(s, *state, saved)
		}
		p, err := r.step(s, batches, state, o)
		if err != nil {
			return err
		}
		elapsed := time.Since(start)
		done := state.Step - first
		p.Steps = steps
		p.ImagesPerSecond = float64(done*o.Batch) / elapsed.Seconds()
		p.Left = elapsed / time.Duration(done) * time.Duration(steps-state.Step)
		if err := m.write(p); err != nil {
			return err
		}
		if r.OnStep != nil {
			r.OnStep(p)
		}
		if state.Step%o.CheckpointingSteps == 0 || state.Step == steps {
			if _, err := r.save(s, *state); err != nil {
				return err
			}
			saved = state.Step
		}
	}
	r.reportRows()
	return nil
}

// step makes one optimizer step.
func (r *Run) step(s *stepper, batches *data.Batches, state *State, o Options) (Progress, error) {
	batch, err := batches.Next()
	if err != nil {
		return Progress{}, err
	}
	arrays, err := r.Feed(batch)
	if err != nil {
		return Progress{}, err
	}
	rate := o.Schedule.At(state.Step, o.LearningRate)
	now := rates{learningRate: rate}
	if o.EMA != nil {
		now.emaDecay = o.EMA.At(state.Step + 1)
	}
	loss, norm, err := s.run(arrays, state.Step+1, now)
	if err != nil {
		return Progress{}, err
	}
	state.Step++
	state.Images += o.Batch
	if l := float64(loss); math.IsNaN(l) || math.IsInf(l, 0) {
		return Progress{}, fmt.Errorf("the loss of step %d is %g and nothing after the last checkpoint was kept: try a lower --learning_rate, then --resume_from_checkpoint latest", state.Step, l)
	}
	return Progress{Step: state.Step, Epoch: batch.Epoch, Images: state.Images, Loss: float64(loss), GradNorm: float64(norm), LearningRate: rate}, nil
}

func (r *Run) save(s *stepper, state State) (string, error) {
	values, err := s.snapshot()
	if err != nil {
		return "", err
	}
	dir, err := saveCheckpoint(r.Options.OutputDir, r.Objective.Trainable, r.Components, values, state)
	if err != nil {
		return "", err
	}
	return dir, prune(r.Options.OutputDir, r.Options.CheckpointsTotalLimit)
}

// interrupted saves what was learnt since the last checkpoint.
func (r *Run) interrupted(s *stepper, state State, saved int) error {
	if state.Step > saved {
		if _, err := r.save(s, state); err != nil {
			return err
		}
	}
	how := "go on with --resume_from_checkpoint latest"
	if r.Options.ResumeFromCheckpoint == "latest" {
		how = "the same command goes on from there"
	}
	return fmt.Errorf("%w at step %d, all saved in %s: %s", ErrInterrupted, state.Step, r.Options.OutputDir, how)
}

// reportRows names the rows that could not be used.
func (r *Run) reportRows() {
	report := r.Dataset.Report()
	if len(report.Bad) == 0 {
		return
	}
	r.logf("%d of %d rows could not be used:", len(report.Bad), report.Rows)
	for i, bad := range report.Bad {
		if i == 10 {
			r.logf("  and %d more", len(report.Bad)-i)
			return
		}
		r.logf("  %s", bad)
	}
}
