package train

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Watch says what a run shows of itself on its way. None of it has a say in the result.
type Watch struct {
	LoggingDir     string  // folder for TensorBoard's events, below the output folder unless it is absolute; "" writes none
	MetricsAddress string  // where Prometheus finds the run's numbers over HTTP, such as ":9090"; "" serves none
	ProfileSteps   int     // steps to trace, after the first two
	PeakTFLOPs     float64 // of one device; 0 is unknown
	Validation     Validation
}

// watcher shows a run that is going on.
type watcher struct {
	run     *Run
	options Options
	began   time.Time
	compile string  // how long it took
	flops   float64 // of an image
	events  *events
	server  *metricsServer
	profile *profiler
	checks  *validator
	written *telemetry

	validated []Validated
	smalls    map[string]string // pictures as the diary embeds them, by file
	spent     Spent             // since the process began
}

// Spent is where the time of a run went, in seconds.
type Spent struct {
	DataWait   float64 `json:"data_wait_s"`  // the devices had nothing to do, since no batch was ready
	Device     float64 `json:"device_s"`     // in the training step, with the upload of its batch
	Saving     float64 `json:"saving_s"`     // training stood still for a checkpoint
	Validation float64 `json:"validation_s"` // and for validation
}

func (s *Spent) add(other Spent) {
	s.DataWait += other.DataWait
	s.Device += other.Device
	s.Saving += other.Saving
	s.Validation += other.Validation
}

// watch begins to show a run that goes on after a step. What it writes, written takes notice of.
func (r *Run) watch(ctx context.Context, s *stepper, o Options, step int, written *telemetry) (*watcher, error) {
	w := &watcher{run: r, options: o, compile: fmt.Sprintf("%.1f s", s.compileTime().Seconds()), smalls: map[string]string{}, written: written}
	if s.loaded() {
		w.compile += ", loaded: it had been compiled before"
	}
	flops, err := s.flops()
	if err != nil {
		return nil, err
	}
	w.flops = flops / float64(o.images())
	r.logf("%.3g TFLOP for each image", w.flops/1e12)
	if w.checks, err = newValidator(ctx, r, s, o, written); err != nil {
		return nil, errors.Join(err, w.close())
	}
	w.began = time.Now()
	if !r.leads() {
		return w, nil
	}
	written.try(validationName, func() (err error) {
		w.validated, err = readValidations(o.OutputDir, step)
		return err
	})
	w.beginEvents(step)
	watch := r.Recipe.Watch
	if watch.MetricsAddress != "" {
		written.try("what Prometheus reads", func() (err error) {
			w.server, err = serveMetrics(watch.MetricsAddress)
			return err
		})
	}
	if w.server != nil {
		r.logf("numbers for Prometheus at http://%s/metrics", w.server.address)
	}
	if watch.ProfileSteps > 0 {
		w.profile = newProfiler(filepath.Join(o.OutputDir, profileDir), watch.ProfileSteps)
	}
	return w, nil
}

// beginEvents begins a file of events, if there are to be any.
func (w *watcher) beginEvents(step int) {
	dir := w.run.Recipe.Watch.LoggingDir
	if dir == "" {
		return
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(w.options.OutputDir, dir)
	}
	w.events = &events{dir: dir, step: step}
}

// event writes what the events show.
func (w *watcher) event(write func(e *events) error) {
	if w.events != nil {
		w.written.try("TensorBoard's events", func() error { return write(w.events) })
	}
}

// wentBack forgets what was shown after a step that the run went back to.
func (w *watcher) wentBack(step int) {
	if !w.run.leads() {
		return
	}
	clear(w.smalls) // later validations will be made again
	w.written.try(validationName, func() (err error) {
		w.validated, err = readValidations(w.options.OutputDir, step)
		return err
	})
	w.event((*events).close)
	w.beginEvents(step)
}

// step takes notice of a step, and fills in what it knows of it.
func (w *watcher) step(p *Progress) {
	w.spent.add(p.Spent)
	if total := time.Since(w.began).Seconds(); total > 0 {
		p.DataStall = w.spent.DataWait / total
	}
	if seconds := p.DataWait + p.Device; seconds > 0 {
		p.TFLOPs = w.flops * float64(w.options.images()) / seconds / 1e12
	}
	if peak := w.run.Recipe.Watch.PeakTFLOPs * float64(w.run.Backend.Devices()); peak > 0 {
		p.PeakShare = p.TFLOPs / peak
	}
	w.event(func(e *events) error { return e.scalars(p.Step, p.scalars()) })
	if w.server != nil {
		w.server.step(*p)
	}
	if w.profile.after() {
		w.trace()
	}
}

// trace writes the profile, if there is one that is not written.
func (w *watcher) trace() {
	w.written.try("the profile", func() error {
		waits := w.profile.waits()
		err := w.profile.stop()
		if waits && err == nil {
			w.run.logf("profile of %d steps in %s/trace.json, for Perfetto or chrome://tracing", w.profile.steps, w.profile.dir)
		}
		return err
	})
}

// scalars are the numbers of a step for TensorBoard; loss and lr are diffusers' names.
func (p Progress) scalars() map[string]float64 {
	numbers := map[string]float64{
		"loss": p.Loss, "lr": p.LearningRate, "grad_norm": p.GradNorm, "epoch": float64(p.Epoch), "images_seen": float64(p.Images),
		"throughput/images_per_s": p.ImagesPerSecond, "throughput/data_stall": p.DataStall, "throughput/tflops": p.TFLOPs,
	}
	if p.PeakShare > 0 {
		numbers["throughput/peak_share"] = p.PeakShare
	}
	return numbers
}

// due says whether there is to be a validation after a step.
func (w *watcher) due(step int) bool {
	return w.checks != nil && (step%w.run.Recipe.Watch.Validation.Steps == 0 || step == w.options.MaxTrainSteps)
}

// validate validates after a step, and shows what came of it.
func (w *watcher) validate(ctx context.Context, s *stepper, step int) error {
	v, err := w.checks.validate(ctx, s, step)
	if err != nil {
		return fmt.Errorf("validation at step %d: %w", step, err)
	}
	if !w.run.leads() {
		return nil
	}
	was := convergence(w.validated)
	w.validated = append(w.validated, v)
	w.written.try(validationName, func() error { return appendValidation(w.options.OutputDir, v) })
	w.run.logf("%s", v)
	if c := convergence(w.validated); c != nil && (was == nil || *was != *c) {
		w.run.logf("sudden convergence: the condition began to be followed between steps %d and %d (F1 %.2f to %.2f)", c.After, c.Before, c.From, c.To)
	}
	if w.server != nil {
		w.server.validated(v)
	}
	w.event(func(e *events) error { return v.events(e, w.options.OutputDir) })
	w.diary()
	return nil
}

// close ends it all.
func (w *watcher) close() error {
	w.trace()
	var errs []error
	if w.checks != nil {
		errs = append(errs, w.checks.close())
	}
	w.event((*events).close)
	if w.server != nil {
		errs = append(errs, w.server.close())
	}
	return errors.Join(errs...)
}
