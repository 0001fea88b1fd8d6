// Package train fits networks to a dataset: recipes, the loop around the compiled step, and checkpoints.
package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"limner/data"
	"limner/internal/plaintext"
	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/sample"
	"limner/train/loss"
	"limner/train/watch"
	"limner/xla"
)

// ErrInterrupted says that a run was stopped early with everything saved.
var ErrInterrupted = errors.New("stopped early")

// ConfigError is a run that cannot be made as asked: nothing was begun.
type ConfigError struct{ error }

func (e ConfigError) Unwrap() error { return e.error }

// Run is a training run.
type Run struct {
	Options    Options
	Backend    *xla.Backend
	Objective  loss.Objective
	Components []Component // the trainable networks
	Weights    Weights     // of all networks, that the run begins with
	Dataset    *data.Dataset
	Recipe     Recipe                                  // what the run was made from; compared when it goes on
	Networks   map[string]any                          // their configs by name, compared too; those of Components need not be here
	Feed       func(*data.Batch) ([]*xla.Array, error) // puts a batch on the devices, in the objective's order
	Finish     func(trained nn.Values) error           // publishes the result

	// Drawing is the model that validation draws with, given the parameters on the devices by key; nil: it draws none.
	Drawing func(resident map[string]*xla.Array) sample.Model
	Held    *watch.Held // rows for the validation loss; nil: there is none

	OnStep func(watch.Progress)
	Log    io.Writer // hears what a person may want to know; nil: silence

	compiled   *stepper        // by Do, for the next Do
	savePauses []time.Duration // between the tries of a save; nil: savePauses
	byNeed     bool            // gradient checkpointing was not asked for, but nothing else fits the devices
}

// Do trains until the last step, or until ctx is cancelled: then it saves a checkpoint and returns an error that wraps
// ErrInterrupted. The result depends on the options, the starting values and the dataset alone, however often the run was
// interrupted and resumed.
func (r *Run) Do(ctx context.Context) error {
	o := r.Options
	if err := o.Validate(); err != nil {
		return err
	}
	if v := r.Recipe.Watch.Validation; r.Drawing == nil && len(v.Prompts) > 0 || r.Held == nil && len(v.Data) > 0 {
		return ConfigError{fmt.Errorf("%s has no validation of that kind: leave out validation_prompt, or validation_data_dir", r.Objective.Name)}
	}
	batches := r.Dataset.StepsPerEpoch()
	if batches > 0 && batches < o.Accumulation {
		return tooManyBatches(o, r.Dataset)
	}
	o.MaxTrainSteps, o.MaxTrainImages = o.steps(batches), 0
	if o.Schedule.Steps == 0 {
		o.Schedule.Steps = o.MaxTrainSteps
	}
	if !r.leads() {
		if err := r.Backend.Together(nil); err != nil {
			return err
		}
		return r.do(ctx, o)
	}
	lock, err := ownOutput(o)
	if err := r.Backend.Together(err); err != nil {
		if lock != nil {
			err = errors.Join(err, lock.Close())
		}
		return err
	}
	return errors.Join(r.do(ctx, o), lock.Close())
}

// do trains in an output folder that this process owns, or the process that leads.
func (r *Run) do(ctx context.Context, o Options) error {
	made, state, from, err := r.begin(o)
	if err := r.sameStep(state.Step, r.Backend.Together(err)); err != nil {
		return err
	}
	if err := r.mark(o, made, state.Step); err != nil {
		return err
	}
	var values nn.Values
	if state.Step >= o.MaxTrainSteps {
		r.logf("step %d of %d is made: nothing is left to train", state.Step, o.MaxTrainSteps)
		values, err = from.values()
	} else {
		values, err = r.train(ctx, o, made, &state, from)
	}
	if err != nil {
		return err
	}
	group := "param"
	if o.EMA != nil {
		group = "ema"
	}
	if !r.leads() {
		return nil
	}
	if err := r.Finish(values.Within(group)); err != nil {
		return fmt.Errorf("write the result: %w\n%s is whole: mend that, then --resume_from_checkpoint latest writes the result from it", err, checkpointName(state.Step))
	}
	return nil
}

// begin finds out what the run is made of, and where it goes on.
func (r *Run) begin(o Options) (made record, state State, from *saved, err error) {
	if made, err = r.record(o); err == nil {
		state, from, err = r.resume(o, made)
	}
	return made, state, from, err
}

// mark makes the output folder this run's, if there is room for what is left of it.
func (r *Run) mark(o Options, made record, step int) (err error) {
	if r.leads() {
		var names []string
		if names, err = Checkpoints(o.OutputDir); err == nil {
			err = checkSpace(o, r.Objective.Trainable, step, o.MaxTrainSteps, len(names))
		}
		if err == nil {
			err = markOutput(o.OutputDir, made, r.Recipe.Text)
		}
	}
	return r.Backend.Together(err)
}

// train makes the steps that are left and returns the state at the end, which is saved. from is the state to begin with; nil
// begins with the starting values.
func (r *Run) train(ctx context.Context, o Options, made record, state *State, from *saved) (nn.Values, error) {
	bound := r.Backend.Bound(ctx)
	compile := func() (*stepper, error) { return r.compile(bound, o) }
	s, err := compileAndLoad(bound, describeStep(r.Backend, r.Objective, o.settings(r.Backend)), compile, func() (nn.Source, *saved) { return r.Weights, from })
	if err = r.Backend.Together(err); errors.Is(err, context.Canceled) {
		return nil, fmt.Errorf("%w while compiling, at step %d: nothing was lost, %s", ErrInterrupted, state.Step, r.howToGoOn(state.Step))
	} else if err != nil {
		return nil, err
	}
	if made.ByNeed = r.byNeed; made.ByNeed && r.leads() {
		if err := markOutput(o.OutputDir, made, nil); err != nil {
			return nil, err
		}
	}
	if err := r.Backend.Together(r.steps(ctx, s, state, o, made)); err != nil {
		return nil, err
	}
	values, err := s.snapshot()
	return values, errors.Join(err, s.free())
}

// compile compiles the step, unless a Do before did.
func (r *Run) compile(ctx context.Context, o Options) (*stepper, error) {
	if r.compiled == nil {
		settings := o.settings(r.Backend)
		settings.announce = r.announce(fmt.Sprintf("the training step (%s, %d parameters, %s)", r.Objective.Name, r.Objective.Trainable.Size(), o.batches(r.Backend.Devices())))
		s, err := r.fit(ctx, settings)
		if err != nil {
			return nil, err
		}
		if s.loaded() {
			r.logf("loaded in %.1f s: it had been compiled before", s.compileTime().Seconds())
		} else {
			r.logf("compiled in %.1f s", s.compileTime().Seconds())
		}
		r.compiled = s
	}
	s := *r.compiled
	return &s, s.plant(o.Seed)
}

// announce says what is done to a program.
func (r *Run) announce(program string) func(loading bool, compiling xla.Expected) {
	return func(loading bool, compiling xla.Expected) {
		if loading {
			r.logf("loading %s", program)
		} else {
			r.logf("compiling %s%s", program, compiling)
		}
	}
}

func (r *Run) logf(format string, args ...any) {
	if r.Log != nil {
		fmt.Fprintf(r.Log, format+"\n", args...)
	}
}

// Close closes the datasets and the files of the weights.
func (r *Run) Close() error {
	err := r.Dataset.Close()
	if r.Held != nil {
		err = errors.Join(err, r.Held.Dataset.Close())
	}
	if files, ok := r.Weights.(io.Closer); ok {
		err = errors.Join(err, files.Close())
	}
	return err
}

// resume looks for the checkpoint to go on from. Damaged ones are named and the one before is used.
func (r *Run) resume(o Options, made record) (State, *saved, error) {
	state := State{Seed: o.Seed}
	if o.ResumeFromCheckpoint == "" {
		return state, nil, nil
	}
	names := []string{o.resumed()}
	latest := o.ResumeFromCheckpoint == "latest"
	if latest {
		var err error
		if names, err = Checkpoints(o.OutputDir); err != nil {
			return state, nil, err
		}
	}
	for _, name := range names {
		dir := filepath.Join(o.OutputDir, name)
		if err := VerifyCheckpoint(dir); err != nil && latest {
			r.logf("checkpoint %s is damaged and passed over: %v", dir, err)
			continue
		} else if err != nil {
			return state, nil, fmt.Errorf("resume from %s: %w", dir, err)
		}
		state, from, err := r.restore(dir, o, made)
		if err != nil {
			return state, nil, fmt.Errorf("resume from %s: %w", dir, err)
		}
		r.logf("going on from %s", dir)
		return state, from, nil
	}
	if len(names) > 0 {
		return state, nil, fmt.Errorf("every checkpoint in %s is damaged: bring one back from a copy, or start anew with another --output_dir", o.OutputDir)
	}
	r.logf("no checkpoint to go on from: starting at step 0")
	return state, nil, nil
}

// resumed is the name of the checkpoint to go on from, which may be given as its path.
func (o Options) resumed() string {
	given := filepath.Clean(o.ResumeFromCheckpoint)
	if name := filepath.Base(given); given == filepath.Join(o.OutputDir, name) {
		return name
	}
	return o.ResumeFromCheckpoint
}

// checkResumed refuses a checkpoint that is not one of the output folder's.
func (o Options) checkResumed() error {
	given := o.resumed()
	if given == "" || given == "latest" {
		return nil
	}
	names, err := Checkpoints(o.OutputDir)
	if err != nil || slices.Contains(names, given) {
		return err
	}
	there := "it has none"
	if len(names) > 0 {
		there = "there are " + strings.Join(names, ", ")
	}
	return ConfigError{fmt.Errorf("resume_from_checkpoint: %q is no checkpoint in %s: give latest or the name of one; %s", given, o.OutputDir, there)}
}

// restore opens a verified checkpoint, after comparing what it and the run are made of.
func (r *Run) restore(dir string, o Options, made record) (State, *saved, error) {
	raw, err := os.ReadFile(filepath.Join(dir, recipeName))
	if err != nil {
		return State{}, nil, err
	}
	notes, err := compare(raw, made)
	if err != nil {
		return State{}, nil, err
	}
	for _, note := range notes {
		r.logf("%s", note)
	}
	var was record
	if err := plaintext.JSON(raw, &was); err != nil {
		return State{}, nil, fmt.Errorf("%s: %w", recipeName, err)
	}
	r.byNeed = was.ByNeed
	var state State
	if err := checkpoint.ReadConfig(filepath.Join(dir, stateName), &state); err != nil {
		return state, nil, err
	}
	from := &saved{dir, r.Objective.Trainable, newOptimizerFile(o.Optimizer, r.Objective.Trainable).tree, r.Components, o.EMA != nil}
	return state, from, from.check()
}

// steps runs the loop proper from state to the last step, and saves that.
func (r *Run) steps(ctx context.Context, s *stepper, state *State, o Options, made record) (err error) {
	shown, err := r.shown(s, o)
	if err != nil {
		return err
	}
	w := watch.New(shown, state.Step)
	defer func() { err = errors.Join(err, w.Close()) }()
	told := ctx
	ctx = r.Backend.Bound(ctx)
	batches, err := r.Dataset.Batches(ctx, state.NextBatch)
	if err != nil {
		return err
	}
	defer batches.Close()
	if err := w.Begin(ctx, r.networks(s, o), state.Step); errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return fmt.Errorf("%w while preparing validation, at step %d: nothing was lost, %s", ErrInterrupted, state.Step, r.howToGoOn(state.Step))
	} else if err != nil {
		return err
	}
	saves := r.background(o, made)
	saves.last, saves.hurry = state.Step, told.Done()
	saves.before = w.Sync // a checkpoint comes after the metrics of its steps
	defer func() { err = errors.Join(err, saves.wait()) }()
	start, done, wentBackAt := time.Now(), 0, 0
	var between watch.Spent // since the last step
	for state.Step < o.MaxTrainSteps {
		if stop, err := r.stopping(told, saves); err != nil {
			return r.unsaved(saves, *state, err)
		} else if stop {
			return r.interrupted(s, saves, *state)
		}
		w.BeforeStep()
		p, err := r.step(ctx, s, batches, state, o, w.Span)
		var bad *notFinite
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return r.interrupted(s, saves, *state)
		} else if errors.As(err, &bad) {
			if err := r.goBack(s, state, saves, o, made, bad); err != nil {
				return err
			}
			w.WentBack(state.Step)
			wentBackAt = bad.step
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
			if err := saves.start(*state, s.snapshot); err != nil {
				return r.unsaved(saves, *state, err)
			}
			between.Saving = time.Since(begin).Seconds()
		}
		if w.Due(state.Step) {
			begin := time.Now()
			if err := w.Validate(ctx, state.Step); errors.Is(err, context.Canceled) && ctx.Err() != nil {
				return r.interrupted(s, saves, *state)
			} else if err != nil {
				return r.ended(s, saves, *state, err)
			}
			between.Validation = time.Since(begin).Seconds()
		}
	}
	r.reportRows()
	w.Spent(between)
	if err := saves.wait(); err != nil {
		return r.unsaved(saves, *state, err)
	}
	return nil
}

// notFed is a step that was not begun, since there is no batch for it.
type notFed struct{ error }

func (e *notFed) Unwrap() error { return e.error }

// ended saves what was learnt before an error that left the state as it was, and ends the run with that. A process among others cannot: they
// may not have met the error.
func (r *Run) ended(s *stepper, saves *background, state State, err error) error {
	if !r.Backend.Process().Alone() || state.Step == 0 {
		return err
	}
	if state.Step > saves.last {
		if failed := errors.Join(saves.start(state, s.snapshot), saves.wait()); failed != nil {
			return errors.Join(err, r.unsaved(saves, state, failed))
		}
	}
	return fmt.Errorf("%w\nstopped at step %d, which is saved: mend that, then %s", err, state.Step, r.howToGoOn(saves.last))
}

// unsaved ends a run that could not save a checkpoint, and says how to go on.
func (r *Run) unsaved(saves *background, state State, err error) error {
	return fmt.Errorf("stopped at step %d: %w\nmend that, then %s", state.Step, err, r.howToGoOn(saves.last))
}

// background saves into the output folder. Beside a process that leads it takes part in the snapshots alone.
func (r *Run) background(o Options, made record) *background {
	b := &background{logf: r.logf, agree: r.Backend.Together, save: func(nn.Values, State) error { return nil }}
	if !r.leads() {
		return b
	}
	s := &saver{
		files: realFiles{}, outputDir: o.OutputDir, tree: r.Objective.Trainable,
		memory: newOptimizerFile(o.Optimizer, r.Objective.Trainable), components: r.Components, ema: o.EMA != nil,
		keep: o.CheckpointsTotalLimit, recipe: made,
	}
	b.pauses, b.save = r.pauses(), s.save
	return b
}

// pauses are those between the tries of a save.
func (r *Run) pauses() []time.Duration {
	if r.savePauses != nil {
		return r.savePauses
	}
	return savePauses
}

// step makes one optimizer step. When ctx is cancelled it makes none, and where it is not finite state moves on in the dataset only.
func (r *Run) step(ctx context.Context, s *stepper, batches *data.Batches, state *State, o Options, span func(name string, start time.Time)) (watch.Progress, error) {
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
	now := rates{learningRate: rate}
	if o.EMA != nil {
		now.emaDecay = o.EMA.At(state.Step + 1)
	}
	begin, spent := time.Now(), watch.Spent{}
	epoch, nextBatch := 0, state.NextBatch
	measured, err := s.run(ctx, state.Step+1, now, func() ([]*xla.Array, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		waiting := time.Now()
		batch, err := batches.Next()
		if err != nil {
			return nil, &notFed{err}
		}
		spent.DataWait += time.Since(waiting).Seconds()
		span("wait for data", waiting)
		epoch, nextBatch = batch.Epoch, batch.Index+1
		putting := time.Now()
		arrays, err := r.Feed(batch)
		span("put a batch on the devices", putting)
		return arrays, err
	})
	var bad *notFinite
	if errors.As(err, &bad) {
		state.NextBatch = nextBatch
	}
	if err != nil {
		return watch.Progress{}, err
	}
	spent.Device = time.Since(begin).Seconds() - spent.DataWait
	span("step", begin)
	state.Step++
	state.Images += o.images()
	state.NextBatch = nextBatch
	state.Epoch = (state.NextBatch + o.Accumulation - 1) / perEpoch
	return watch.Progress{
		Step: state.Step, Epoch: epoch, Images: state.Images, Loss: float64(measured.loss), GradNorm: float64(measured.gradNorm), LearningRate: rate, Spent: spent,
	}, nil
}

// interrupted saves what was learnt since the last checkpoint.
func (r *Run) interrupted(s *stepper, saves *background, state State) error {
	if err := saves.wait(); err != nil {
		r.logf("%v: trying again at step %d", err, state.Step)
	}
	last, _, err := r.Backend.Range(int32(saves.last)) // what is whole, the process that writes knows
	if err != nil {
		return err
	}
	saves.last = int(last)
	if state.Step > saves.last {
		if err := errors.Join(saves.start(state, s.snapshot), saves.wait()); err != nil {
			return r.unsaved(saves, state, err)
		}
		return fmt.Errorf("%w at step %d, saved in %s: %s", ErrInterrupted, state.Step,
			filepath.Join(r.Options.OutputDir, checkpointName(state.Step)), r.howToGoOn(state.Step))
	}
	return fmt.Errorf("%w at step %d, with no step made since the last checkpoint: %s", ErrInterrupted, state.Step, r.howToGoOn(state.Step))
}

// howToGoOn says how to go on from a step that is saved, or from the start. Where checkpoints of later steps lie beside it, as when a run
// was continued from an earlier one, latest would be another.
func (r *Run) howToGoOn(step int) string {
	name := "latest"
	if names, err := Checkpoints(r.Options.OutputDir); err == nil && len(names) > 0 && step > 0 && names[0] != checkpointName(step) {
		name = checkpointName(step)
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
