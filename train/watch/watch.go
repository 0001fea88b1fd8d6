// Package watch shows a training run on its way, without a say in its result: metrics, TensorBoard's events, numbers
// for Prometheus, a page with curves, a profile, and validation by images and by the loss of held-out rows.
package watch

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Watcher shows a run that is going on. What cannot be written does not end the run: it is left out, which is said.
type Watcher struct {
	run     Run
	began   time.Time
	metrics *metrics // nil where another process writes
	events  *events
	server  *metricsServer
	profile *profiler
	checks  *validator
	page    *diary // nil until the run has begun, and where another process writes
	written *telemetry

	rows      []Row // as training has them
	validated []Validated
	spent     Spent // since the process began
}

// New opens the metrics of a run that goes on after a step. Lines of later steps are dropped: they will be made again.
func New(run Run, step int) *Watcher {
	w := &Watcher{run: run, written: newTelemetry(run.Logf)}
	if run.Writes {
		w.metrics = newMetrics(run.OutputDir, step)
	}
	w.written.try(metricsName, w.metrics.begin)
	return w
}

// Begin prepares all else that is shown of the run after a step: it compiles what validates the networks.
func (w *Watcher) Begin(ctx context.Context, networks Networks, step int) (err error) {
	w.run.Logf("%.3g TFLOP for each image", w.run.flopsPerImage()/1e12)
	if w.checks, err = newValidator(ctx, w.run, networks, w.written); err != nil {
		return err
	}
	w.began = time.Now()
	if !w.run.Writes {
		return nil
	}
	w.page = newDiary(w.run, w.began)
	w.readValidations(step)
	w.beginEvents(step)
	if w.run.MetricsAddress != "" {
		w.written.try("what Prometheus reads", func() (err error) {
			w.server, err = serveMetrics(w.run.MetricsAddress)
			return err
		})
	}
	if w.server != nil {
		w.run.Logf("numbers for Prometheus at http://%s/metrics", w.server.address)
	}
	if w.run.ProfileSteps > 0 {
		w.profile = newProfiler(filepath.Join(w.run.OutputDir, profileDir), w.run.ProfileSteps)
	}
	return nil
}

// readValidations reads the validations up to a step.
func (w *Watcher) readValidations(step int) {
	w.written.try(validationName, func() (err error) {
		w.validated, err = readValidations(w.run.OutputDir, step)
		return err
	})
}

// beginEvents begins a file of events, if there are to be any.
func (w *Watcher) beginEvents(step int) {
	dir := w.run.LoggingDir
	if dir == "" {
		return
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(w.run.OutputDir, dir)
	}
	w.events = &events{dir: dir, step: step}
}

// event writes what the events show.
func (w *Watcher) event(write func(e *events) error) {
	if w.events != nil {
		w.written.try("TensorBoard's events", func() error { return write(w.events) })
	}
}

// WentBack forgets what was shown after a step that the run went back to.
func (w *Watcher) WentBack(step int) {
	w.written.try(metricsName, func() error { return w.metrics.goBack(step) })
	if !w.run.Writes {
		return
	}
	w.page.forget() // later validations will be made again
	w.readValidations(step)
	w.event((*events).close)
	w.beginEvents(step)
}

// BeforeStep comes before each step.
func (w *Watcher) BeforeStep() { w.profile.before() }

// mostRows is how many rows the page shows.
const mostRows = 8

// WantsRows says whether Rows should be called with those of the batch under way.
func (w *Watcher) WantsRows() bool { return w.page != nil && len(w.rows) < mostRows }

// Rows takes notice of rows that training has.
func (w *Watcher) Rows(rows []Row) {
	w.rows = append(w.rows, rows[:min(len(rows), mostRows-len(w.rows))]...)
}

// Span notes for the profile a piece of a step that began at start and ends now.
func (w *Watcher) Span(name string, start time.Time) { w.profile.span(name, start) }

// Step takes notice of a step, and fills in what it knows of it.
func (w *Watcher) Step(p *Progress) {
	w.spent.add(p.Spent)
	if total := time.Since(w.began).Seconds(); total > 0 {
		p.DataStall = w.spent.DataWait / total
	}
	if seconds := p.DataWait + p.Device; seconds > 0 {
		p.TFLOPs = w.run.flopsPerImage() * float64(w.run.Images) / seconds / 1e12
	}
	if peak := w.run.PeakTFLOPs * float64(w.run.Devices); peak > 0 {
		p.PeakShare = p.TFLOPs / peak
	}
	w.event(func(e *events) error { return e.scalars(p.Step, p.scalars()) })
	if w.server != nil {
		w.server.step(*p)
	}
	if w.profile.after() {
		w.trace()
	}
	w.written.try(metricsName, func() error { return w.metrics.write(*p) })
}

// Spent takes notice of time that was spent after the last step.
func (w *Watcher) Spent(after Spent) { w.spent.add(after) }

// Sync makes the metrics of the steps so far durable.
func (w *Watcher) Sync() { w.written.try(metricsName, w.metrics.sync) }

// trace writes the profile, if there is one that is not written.
func (w *Watcher) trace() {
	w.written.try("the profile", func() error {
		waits := w.profile.waits()
		err := w.profile.stop()
		if waits && err == nil {
			w.run.Logf("profile of %d steps in %s/trace.json, for Perfetto or chrome://tracing",
				w.profile.steps, w.profile.dir)
		}
		return err
	})
}

// Due says whether there is to be a validation after a step. Before the first step, which is 0, there is one where a
// condition is measured: what the images without the ControlNet have of it is what later ones are compared with.
func (w *Watcher) Due(step int) bool {
	if step == 0 {
		return w.checks != nil && w.checks.Condition != ""
	}
	return w.checks != nil && (step%w.run.Validation.Steps == 0 || step == w.run.Steps)
}

// Validate validates after a step, and shows what came of it.
func (w *Watcher) Validate(ctx context.Context, step int) error {
	v, err := w.checks.validate(ctx, step)
	if err != nil {
		return fmt.Errorf("validation at step %d: %w", step, err)
	}
	if !w.run.Writes {
		return nil
	}
	if v.Baseline == nil && len(w.validated) > 0 {
		v.Baseline = w.validated[0].Baseline
	}
	was := convergence(w.validated)
	w.validated = append(w.validated, v)
	w.written.try(validationName, func() error { return appendValidation(w.run.OutputDir, v) })
	w.run.Logf("%s", v)
	if c := convergence(w.validated); c != nil && (was == nil || *was != *c) {
		w.run.Logf("sudden convergence: the condition began to be followed between steps %d and %d (%s %.2f to %.2f)",
			c.After, c.Before, c.Measure, c.From, c.To)
	}
	if w.server != nil {
		w.server.validated(v)
	}
	w.event(func(e *events) error { return v.events(e, w.run.OutputDir) })
	w.writePage()
	return nil
}

// writePage writes the page anew.
func (w *Watcher) writePage() {
	if w.page != nil {
		w.written.try(diaryName, func() error { return w.page.write(w.rows, w.validated, w.spent) })
	}
}

// Close writes what is left to be written, and frees what validates.
func (w *Watcher) Close() error {
	w.writePage()
	w.trace()
	var errs []error
	if w.checks != nil {
		errs = append(errs, w.checks.close())
	}
	w.event((*events).close)
	if w.server != nil {
		errs = append(errs, w.server.close())
	}
	w.written.try(metricsName, w.metrics.close)
	return errors.Join(errs...)
}
