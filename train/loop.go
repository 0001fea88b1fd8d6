// Package train fits networks to a dataset: recipes, and the loop around the compiled step.
package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"limner/data"
	"limner/internal/refusal"
	"limner/models/nn"
	"limner/train/folder"
	"limner/train/step"
	"limner/train/watch"
	"limner/xla/program"
)

// Do trains until the last step, or until ctx is cancelled: then it saves a checkpoint and returns an error that wraps
// ErrInterrupted. The result depends on the options, the starting values and the dataset alone, however often the run
// was interrupted and resumed.
func (r *Run) Do(ctx context.Context) error {
	o := r.Options
	if err := o.Validate(); err != nil {
		return err
	}
	if v := r.Recipe.Watch.Validation; r.Drawing == nil && len(v.Prompts) > 0 || r.Held == nil && len(v.Data) > 0 {
		return refusal.Errorf("%s has no validation of that kind: leave out validation_prompt, or validation_data_dir",
			r.Objective.Name)
	}
	batches := r.Dataset.StepsPerEpoch()
	if batches > 0 && batches < o.Accumulation {
		return tooManyBatches(o, r.Dataset)
	}
	o.MaxTrainSteps, o.MaxTrainImages = o.steps(batches), 0
	if o.Schedule.Steps == 0 {
		o.Schedule.Steps = o.MaxTrainSteps
	}
	if s := o.Schedule; s.WarmsUp() && s.Warmup >= o.MaxTrainSteps {
		r.logf("lr_warmup_steps: the learning rate rises for %d steps and the run has %d, so it never reaches %g: "+
			"give fewer", s.Warmup, o.MaxTrainSteps, o.LearningRate)
	}
	var lock io.Closer
	err := r.processes().lead(func() (err error) {
		lock, err = o.output().Own()
		return err
	})
	if err == nil {
		err = r.do(ctx, o)
	}
	if lock != nil {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// do trains in an output folder that this process owns, or the process that leads.
func (r *Run) do(ctx context.Context, o Options) error {
	record, state, checkpoint, err := r.begin(o)
	if err := r.processes().sameStep(state.Step, o.OutputDir, err); err != nil {
		return err
	}
	if err := r.mark(o, record, state.Step); err != nil {
		return err
	}
	var values nn.Values
	if state.Step >= o.MaxTrainSteps {
		r.logf("step %d of %d is made: nothing is left to train", state.Step, o.MaxTrainSteps)
		values, err = checkpoint.Values()
	} else {
		values, err = r.train(ctx, o, record, &state, checkpoint)
	}
	if err != nil {
		return err
	}
	group := "param"
	if o.EMA != nil {
		group = "ema"
	}
	if !r.processes().leads() {
		return nil
	}
	if err := r.Finish(values.Within(group)); err != nil {
		return fmt.Errorf("write the result: %w\n%s is whole: mend that, then --resume_from_checkpoint latest writes "+
			"the result from it", err, folder.Name(state.Step))
	}
	return nil
}

// train makes the steps that are left and returns the state at the end, which is saved. It begins with the state of the
// checkpoint; nil begins with the starting values.
func (r *Run) train(ctx context.Context, o Options, record folder.Record, state *folder.State,
	checkpoint *folder.Checkpoint) (nn.Values, error) {
	bound := r.processes().bound(ctx)
	compile := func() (*step.Step, error) { return r.compile(bound, o) }
	s, err := step.CompileAndLoad(bound, step.Describe(r.Backend, r.Objective, o.settings(r.Backend)),
		compile, func() (nn.Source, step.Saved) { return r.Weights, saved(checkpoint) })
	if err = r.processes().agree(err); errors.Is(err, context.Canceled) {
		return nil, fmt.Errorf("%w while compiling, at step %d: nothing was lost, %s",
			ErrInterrupted, state.Step, r.howToGoOn(state.Step))
	} else if err != nil {
		return nil, err
	}
	if record.ByNeed = r.byNeed; record.ByNeed && r.processes().leads() {
		if err := o.output().Mark(record, nil); err != nil {
			return nil, err
		}
	}
	if err := r.processes().agree(r.steps(ctx, s, state, o, record)); err != nil {
		return nil, err
	}
	values, err := s.Snapshot()
	return values, errors.Join(err, s.Free())
}

// compile compiles the step, unless a Do before did.
func (r *Run) compile(ctx context.Context, o Options) (*step.Step, error) {
	if r.compiled == nil {
		settings := o.settings(r.Backend)
		settings.Announce = r.announce(fmt.Sprintf("the training step (%s, %d parameters, %s)",
			r.Objective.Name, r.Objective.Trainable.Size(), o.batches(r.Backend.Devices())))
		s, err := r.fit(ctx, settings)
		if err != nil {
			return nil, err
		}
		if s.Loaded() {
			r.logf("loaded in %.1f s: it had been compiled before", s.CompileTime().Seconds())
		} else {
			r.logf("compiled in %.1f s", s.CompileTime().Seconds())
		}
		r.compiled = s
	}
	return r.compiled.WithSeed(o.Seed)
}

// steps runs the loop proper from state to the last step, and saves that.
func (r *Run) steps(ctx context.Context, s *step.Step, state *folder.State, o Options,
	record folder.Record) (err error) {
	shown, err := r.shown(s, o)
	if err != nil {
		return err
	}
	w := watch.New(shown, state.Step)
	defer func() { err = errors.Join(err, w.Close()) }()
	caller := ctx
	ctx = r.processes().bound(ctx)
	batches, err := r.Dataset.Batches(ctx, state.NextBatch)
	if err != nil {
		return err
	}
	defer batches.Close()
	if err := w.Begin(ctx, r.networks(s, o), state.Step); errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return fmt.Errorf("%w while preparing validation, at step %d: nothing was lost, %s",
			ErrInterrupted, state.Step, r.howToGoOn(state.Step))
	} else if err != nil {
		return err
	}
	saves := r.background(o, record)
	saves.Last, saves.Hurry = state.Step, caller.Done()
	saves.Before = w.Sync // a checkpoint comes after the metrics of its steps
	defer func() { err = errors.Join(err, saves.Wait()) }()
	var between watch.Spent // since the last step
	validate := func() error {
		begin := time.Now()
		err := w.Validate(ctx, state.Step)
		between.Validation = time.Since(begin).Seconds()
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return r.interrupted(s, saves, *state)
		} else if err != nil {
			return r.ended(s, saves, *state, err)
		}
		return nil
	}
	if state.Step == 0 && w.Due(0) {
		if err := validate(); err != nil {
			return err
		}
	}
	start, done, wentBackAt := time.Now(), 0, 0
	for state.Step < o.MaxTrainSteps {
		if stop, err := r.processes().stopping(caller.Err() != nil, saves.Poll()); err != nil {
			return r.unsaved(saves, *state, err)
		} else if stop {
			return r.interrupted(s, saves, *state)
		}
		w.BeforeStep()
		p, err := r.step(ctx, s, batches, state, o, w)
		var notFinite *step.NotFinite
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return r.interrupted(s, saves, *state)
		} else if errors.As(err, &notFinite) {
			if err := r.goBack(s, state, saves, o, record, notFinite); err != nil {
				return err
			}
			w.WentBack(state.Step)
			wentBackAt = notFinite.Step
			continue
		} else if errors.As(err, new(*notFed)) {
			return r.ended(s, saves, *state, err)
		} else if err != nil {
			return err
		}
		elapsed := time.Since(start)
		done++
		p.Steps = o.MaxTrainSteps
		p.WentBackAt, wentBackAt = wentBackAt, 0
		p.ImagesPerSecond = float64(done*o.images()) / elapsed.Seconds()
		p.Left = elapsed / time.Duration(done) * time.Duration(p.Steps-state.Step)
		p.Saving, p.Validation = between.Saving, between.Validation
		between = watch.Spent{}
		w.Step(&p)
		if r.OnStep != nil {
			r.OnStep(p)
		}
		if state.Step%o.CheckpointingSteps == 0 || state.Step == o.MaxTrainSteps {
			begin := time.Now()
			if err := saves.Start(*state, s.Snapshot); err != nil {
				return r.unsaved(saves, *state, err)
			}
			between.Saving = time.Since(begin).Seconds()
		}
		if w.Due(state.Step) {
			if err := validate(); err != nil {
				return err
			}
		}
	}
	r.reportRows()
	w.Spent(between)
	if err := saves.Wait(); err != nil {
		return r.unsaved(saves, *state, err)
	}
	return nil
}

// notFed is a step that was not begun, since there is no batch for it.
type notFed struct{ error }

func (e *notFed) Unwrap() error { return e.error }

// ended saves what was learnt before an error that left the state as it was, and ends the run with that. A process
// among others cannot: they may not have met the error.
func (r *Run) ended(s *step.Step, saves *folder.Background, state folder.State, err error) error {
	if !r.processes().alone() || state.Step == 0 {
		return err
	}
	if state.Step > saves.Last {
		if failed := errors.Join(saves.Start(state, s.Snapshot), saves.Wait()); failed != nil {
			return errors.Join(err, r.unsaved(saves, state, failed))
		}
	}
	return fmt.Errorf("%w\nstopped at step %d, which is saved: mend that, then %s",
		err, state.Step, r.howToGoOn(saves.Last))
}

// unsaved ends a run that could not save a checkpoint, and says how to go on.
func (r *Run) unsaved(saves *folder.Background, state folder.State, err error) error {
	return fmt.Errorf("stopped at step %d: %w\nmend that, then %s", state.Step, err, r.howToGoOn(saves.Last))
}

// step makes one optimizer step. When ctx is cancelled it makes none, and where it is not finite state moves on in the
// dataset only.
func (r *Run) step(ctx context.Context, s *step.Step, batches *data.Batches, state *folder.State, o Options,
	w *watch.Watcher) (watch.Progress, error) {
	perEpoch := r.Dataset.StepsPerEpoch()
	// What is left of an epoch and makes no step is passed over.
	if left := perEpoch - state.NextBatch%perEpoch; left < o.Accumulation {
		for range left {
			if _, err := batches.Next(); err != nil {
				return watch.Progress{}, &notFed{err}
			}
			state.NextBatch++
		}
	}
	rate := o.Schedule.At(state.Step, o.LearningRate)
	now := step.Rates{LearningRate: rate}
	if o.EMA != nil {
		now.EMADecay = o.EMA.At(state.Step + 1)
	}
	begin, spent := time.Now(), watch.Spent{}
	epoch, nextBatch := 0, state.NextBatch
	measured, err := s.Run(ctx, state.Step+1, now, func() (program.Arrays, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		waiting := time.Now()
		batch, err := batches.Next()
		if err != nil {
			return nil, &notFed{err}
		}
		spent.DataWait += time.Since(waiting).Seconds()
		w.Span("wait for data", waiting)
		if w.WantsRows() {
			w.Rows(r.seen(batch))
		}
		epoch, nextBatch = batch.Epoch, batch.Index+1
		putting := time.Now()
		arrays, err := r.Feed(batch)
		w.Span("put a batch on the devices", putting)
		return arrays, err
	})
	var notFinite *step.NotFinite
	if errors.As(err, &notFinite) {
		state.NextBatch = nextBatch
	}
	if err != nil {
		return watch.Progress{}, err
	}
	spent.Device = time.Since(begin).Seconds() - spent.DataWait
	w.Span("step", begin)
	state.Step++
	state.Images += o.images()
	state.NextBatch = nextBatch
	state.Epoch = (state.NextBatch + o.Accumulation - 1) / perEpoch
	return watch.Progress{
		Step: state.Step, Epoch: epoch, Images: state.Images, Loss: float64(measured.Loss),
		GradNorm: float64(measured.GradNorm), LearningRate: rate, Spent: spent,
	}, nil
}

// interrupted saves what was learnt since the last checkpoint.
func (r *Run) interrupted(s *step.Step, saves *folder.Background, state folder.State) error {
	if err := saves.Wait(); err != nil {
		r.logf("%v: trying again at step %d", err, state.Step)
	}
	last, err := r.processes().least(saves.Last) // what is whole, the process that writes knows
	if err != nil {
		return err
	}
	saves.Last = last
	if state.Step > saves.Last {
		if err := errors.Join(saves.Start(state, s.Snapshot), saves.Wait()); err != nil {
			return r.unsaved(saves, state, err)
		}
		return fmt.Errorf("%w at step %d, saved in %s: %s", ErrInterrupted, state.Step,
			filepath.Join(r.Options.OutputDir, folder.Name(state.Step)), r.howToGoOn(state.Step))
	}
	return fmt.Errorf("%w at step %d, with no step made since the last checkpoint: %s",
		ErrInterrupted, state.Step, r.howToGoOn(state.Step))
}

// howToGoOn says how to go on from a step that is saved, or from the start. Where checkpoints of later steps lie beside
// it, as when a run was continued from an earlier one, latest would be another.
func (r *Run) howToGoOn(step int) string {
	name := "latest"
	if names, err := folder.Checkpoints(r.Options.OutputDir); err == nil && len(names) > 0 && step > 0 &&
		names[0] != folder.Name(step) {
		name = folder.Name(step)
	}
	given := r.Options.ResumeFromCheckpoint
	switch {
	case given != "" && filepath.Base(given) == name:
		return "the same command goes on from there"
	case step == 0:
		return "start again with --resume_from_checkpoint latest"
	}
	return "go on with --resume_from_checkpoint " + name
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
