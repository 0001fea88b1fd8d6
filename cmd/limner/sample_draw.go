package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"

	"limner/data"
	"limner/sample"
	"limner/xla"
)

// artist draws the jobs of limner sample.
type artist struct {
	cmd     *sampleCmd
	model   sample.Model
	files   []usedFile // that the model was loaded from
	backend *xla.Backend
	out     *output
	work    []*job
}

// group are jobs that one request can ask for.
type group struct {
	key   string
	shape sample.Shape
	jobs  []*job
}

// groups sorts the jobs by size, then by whatever else a request has once for all images.
func (a *artist) groups() []group {
	var groups []group
	for _, j := range a.work {
		key := j.key()
		i := slices.IndexFunc(groups, func(g group) bool { return g.key == key })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{key: key, shape: sample.Shape{Height: j.Height, Width: j.Width}})
		}
		groups[i].jobs = append(groups[i].jobs, j)
	}
	// One pipeline draws all groups of a size, so they share a batch.
	most := map[sample.Shape]int{}
	for _, g := range groups {
		most[g.shape] = max(most[g.shape], len(g.jobs))
	}
	for i, g := range groups {
		groups[i].shape.Batch = a.cmd.batch(most[g.shape], a.backend.Devices())
	}
	slices.SortStableFunc(groups, func(x, y group) int {
		if x.shape.Height != y.shape.Height {
			return x.shape.Height - y.shape.Height
		}
		return x.shape.Width - y.shape.Width
	})
	return groups
}

// key is equal for jobs that differ only in what a request has for each image.
func (j *job) key() string {
	d := j.drawing
	d.Prompt, d.Seed, d.ControlImage, d.BatchRow = nil, 0, nil, 0
	for _, one := range []*[]string{&d.Image, &d.Mask} {
		if *one != nil {
			*one = []string{""}
		}
	}
	if d.NegativePrompt != nil {
		d.NegativePrompt = new(string)
	}
	key, err := json.Marshal(d)
	if err != nil {
		panic(err) // all of its fields can be written: not NaN, since check has passed
	}
	return string(key)
}

// check reports what does not fit the model or the devices.
func (a *artist) check() error {
	var errs []error
	for _, j := range a.work {
		errs = append(errs, j.checkSize()) // sizes that no flag set are known now
	}
	for _, g := range a.groups() {
		errs = append(errs, a.model.Check(g.shape, a.backend.Devices()))
	}
	return joinDistinct(errs)
}

// request asks for a group.
func (g group) request() sample.Request {
	r := g.jobs[0].request()
	var conditions [][]float32
	for _, j := range g.jobs {
		r.Prompts, r.Seeds = append(r.Prompts, j.Prompt[0]), append(r.Seeds, j.Seed)
		if j.NegativePrompt != nil {
			r.NegativePrompts = append(r.NegativePrompts, *j.NegativePrompt)
		}
		if conditions == nil {
			conditions = make([][]float32, len(j.controls))
		}
		for i, m := range j.controls {
			conditions[i] = data.AppendCondition(conditions[i], m)
		}
		if j.image != nil {
			r.Images = data.AppendPixels(r.Images, j.image)
		}
		if j.mask != nil {
			r.Masks = data.AppendGray(r.Masks, j.mask)
		}
		r.Latents = append(r.Latents, j.latents...)
	}
	if len(conditions) > 0 {
		r.Conditions = conditions
	}
	if row := g.jobs[0].BatchRow; len(g.jobs) == 1 && row < g.shape.Batch {
		r.Row = row
	}
	return r
}

// draw draws all groups. Pictures in which something is wrong are kept, and named by write.
func (a *artist) draw(ctx context.Context) (err error) {
	bar := newProgress(os.Stderr, "sampling")
	defer func() { err = errors.Join(err, bar.Close()) }()
	groups := a.groups()
	done, total := 0, 0
	steps := make([]int, len(groups))
	for i, g := range groups {
		if steps[i], err = a.steps(g); err != nil {
			return err
		}
		total += steps[i]
	}
	var pipeline *sample.Pipeline
	defer func() {
		if pipeline != nil {
			err = errors.Join(err, pipeline.Close())
		}
	}()
	for i, g := range groups {
		r := g.request()
		if i == 0 || g.shape != groups[i-1].shape {
			if pipeline != nil {
				if err := pipeline.Close(); err != nil {
					return err
				}
			}
			if pipeline, err = sample.New(ctx, a.backend, a.model, g.shape, r); err != nil {
				return err
			}
		}
		var failed error
		calls := steps[i] / g.rounds()
		r.OnStep = func(step, _ int, latents func() ([]float32, error)) {
			bar.Step(done+step, total, "")
			failed = errors.Join(failed, a.preview(g, (step-1)/calls, (step-1)%calls+1, calls, latents))
		}
		result, err := pipeline.Sample(ctx, r)
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		size := len(result.Latents) / len(g.jobs)
		for k, j := range g.jobs {
			j.result, j.final, j.problem = result.Images[k], result.Latents[k*size:(k+1)*size], result.Problems[k]
			j.BatchRow, j.BatchSize = r.Row+k%g.shape.Batch, g.shape.Batch
		}
		done += steps[i]
	}
	return nil
}

// steps is how often the network is called for a group.
func (a *artist) steps(g group) (int, error) {
	j := g.jobs[0]
	plan, err := sample.NewPlan(j.Scheduler, a.model.Pipeline.Noise, j.NumInferenceSteps, j.planOptions())
	return len(plan.Calls) * g.rounds(), err
}

// rounds is how many batches a group takes.
func (g group) rounds() int { return (len(g.jobs) + g.shape.Batch - 1) / g.shape.Batch }
