package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"limner/controlnet/condition"
	"limner/data/imaging"
	"limner/internal/refusal"
	"limner/sample"
	"limner/xla"
)

// prepare decides which jobs are sampled together and which are done, and refuses what does not fit the model, the
// devices or the folder.
func (l *List) prepare() error {
	for _, j := range l.jobs {
		if err := j.checkSize(); err != nil { // sizes that no flag set are known now
			return UsageError{err}
		}
	}
	var err error
	if l.groups, err = l.grouped(); err != nil {
		return err
	}
	var errs []error
	for _, g := range l.groups {
		errs = append(errs, l.model.Check(g.shape, l.backend.Devices()), l.checkMemory(g.shape))
	}
	if err := joinDistinct(errs); err != nil {
		return refusal.Error{Err: err} // whether a size can be depends on the model
	}
	for _, g := range l.groups {
		g.place()
	}
	l.record = l.recorded()
	if err := l.resume(); err != nil {
		return err
	}
	return l.checkSpace()
}

// checkMemory fails where the machine has too little memory for a shape on CPU devices, whose programs would take all
// of it first.
func (l *List) checkMemory(s sample.Shape) error {
	free, devices := xla.FreeMemory(), l.backend.Devices()
	need := l.model.LeastMemory(s, devices) * int64(devices)
	if !l.backend.CPU() || free == 0 || need <= free {
		return nil
	}
	return fmt.Errorf("%d images of %d×%d pixels at once take more than %.1f GB of memory, %.1f GB are free: "+
		"choose a smaller --height, --width or --batch_size, or --enable_vae_tiling", s.Batch, s.Width, s.Height,
		float64(need)/1e9, float64(free)/1e9)
}

// grouped sorts the jobs by size, then by whatever else a request has once for all images.
func (l *List) grouped() ([]group, error) {
	var groups []group
	indices := map[string]int{}
	for _, j := range l.jobs {
		r := j.Request()
		r.Prompts = []string{j.text()}
		if j.NegativePrompt != nil {
			r.NegativePrompts = []string{*j.NegativePrompt}
		}
		chunks, err := l.model.Chunks(r)
		if err != nil {
			return nil, UsageError{err}
		}
		key := fmt.Sprint(chunks, j.key())
		i, ok := indices[key]
		if !ok {
			i = len(groups)
			indices[key] = i
			groups = append(groups, group{shape: sample.Shape{Height: j.Height, Width: j.Width}, chunks: chunks})
		}
		groups[i].jobs = append(groups[i].jobs, j)
	}
	// One pipeline samples all groups of a size, so they share a batch.
	most := map[sample.Shape]int{}
	for _, g := range groups {
		most[g.shape] = max(most[g.shape], len(g.jobs))
	}
	capped := 0
	for i, g := range groups {
		groups[i].shape.Batch = l.options.batch(most[g.shape], l.backend.Devices())
		capped = max(capped, groups[i].shape.Batch)
	}
	if n := l.options.BatchSize; capped < n {
		fmt.Fprintf(l.host.Log, "--batch_size %d is more than there are images of one size: %d at once\n", n, capped)
	}
	slices.SortStableFunc(groups, func(x, y group) int {
		return cmp.Or(cmp.Compare(x.shape.Height, y.shape.Height), cmp.Compare(x.shape.Width, y.shape.Width))
	})
	return groups, nil
}

// place notes in which row of which batch each job is sampled, as its record has it. A single job may ask for a row.
func (g group) place() {
	for i, j := range g.jobs {
		j.BatchSize = g.shape.Batch
		if len(g.jobs) > 1 || j.BatchRow >= g.shape.Batch {
			j.BatchRow = i % g.shape.Batch
		}
	}
}

// rounds are what is left to sample. A round of which an image is missing is sampled as a whole, so that each image
// comes out the same.
func (l *List) rounds() ([]round, error) {
	var rounds []round
	for _, g := range l.groups {
		j := g.jobs[0]
		sched, err := l.model.Schedule(j.Request(), j.Height, j.Width)
		if err != nil {
			return nil, err
		}
		for jobs := range slices.Chunk(g.jobs, g.shape.Batch) {
			if slices.ContainsFunc(jobs, func(j *job) bool { return !j.done }) {
				rounds = append(rounds, round{g.shape, jobs, sched})
			}
		}
	}
	return rounds, nil
}

// request asks for a round.
func (l *List) request(r round) (sample.Request, error) {
	l.pictures.next()
	q := r.jobs[0].Request()
	var conditions [][]float32
	for _, j := range r.jobs {
		q.Prompts, q.Seeds = append(q.Prompts, j.text()), append(q.Seeds, j.Seed)
		if j.NegativePrompt != nil {
			q.NegativePrompts = append(q.NegativePrompts, *j.NegativePrompt)
		}
		if conditions == nil {
			conditions = make([][]float32, len(j.ControlImage))
		}
		for i, path := range j.ControlImage {
			m, hidden, err := l.pictures.condition(path, j)
			if err != nil {
				return q, err
			}
			conditions[i] = condition.AppendFloats(conditions[i], m, hidden)
		}
		if j.Image != nil {
			m, err := l.pictures.sized(imageFlag, j.Image[0], j)
			if err != nil {
				return q, err
			}
			q.Images = imaging.AppendPixels(q.Images, m)
		}
		if j.Mask != nil {
			m, err := l.pictures.sized(maskFlag, j.Mask[0], j)
			if err != nil {
				return q, err
			}
			q.Masks = imaging.AppendGray(q.Masks, m)
		}
		latents, err := l.given.of(j)
		if err != nil {
			return q, err
		}
		q.Latents = append(q.Latents, latents...)
	}
	if len(conditions) > 0 {
		q.Conditions = conditions
	}
	q.Row = r.jobs[0].BatchRow
	q.OnImage = func(i sample.Image) error { return l.keep(r.jobs[i.Index], i) }
	return q, nil
}

// sample samples what is missing, writes each image when it is decoded, and then what goes with them.
func (l *List) sample(ctx context.Context) (err error) {
	rounds, err := l.rounds()
	if err != nil {
		return err
	}
	if len(rounds) == 0 && l.complete() {
		fmt.Fprintf(l.host.Log, "all %d images are in %s: nothing is left to sample\n",
			len(l.jobs), l.options.OutputDir)
		return l.problems()
	}
	start := time.Now()
	if err := l.sampleRounds(ctx, rounds); err != nil {
		return err
	}
	fmt.Fprintf(l.host.Log, "sampled in %.1f s\n", time.Since(start).Seconds())
	return l.finish()
}

// sampleRounds samples the rounds of each size by a pipeline of their own.
func (l *List) sampleRounds(ctx context.Context, rounds []round) (err error) {
	done, total := 0, 0
	for _, r := range rounds {
		total += r.schedule.Steps
	}
	step := func(r round, i int, latents func() ([]float32, error)) {
		if n := r.schedule.StepsDone(i) - r.schedule.StepsDone(i-1); n > 0 {
			done += n
			l.host.Watcher.Step(done, total)
		}
		l.failed = errors.Join(l.failed, l.preview(r, i, latents))
	}
	for len(rounds) > 0 {
		n := 1
		for n < len(rounds) && rounds[n].shape == rounds[0].shape {
			n++
		}
		if err := l.sampleSize(ctx, rounds[:n], step); err != nil {
			return err
		}
		rounds = rounds[n:]
	}
	return nil
}

// sampleSize samples rounds of one size. The folder is touched when the first image can be sampled.
func (l *List) sampleSize(ctx context.Context, rounds []round,
	step func(round, int, func() ([]float32, error))) (err error) {
	first, err := l.request(rounds[0])
	if err != nil {
		return err
	}
	pipeline, err := sample.New(ctx, l.backend, l.model, rounds[0].shape, first)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pipeline.Close()) }()
	if err := l.begin(); err != nil {
		return err
	}
	quiet := context.AfterFunc(ctx, func() {
		fmt.Fprintln(l.host.Log, "limner: stopping when what is being decoded is written; "+
			"a second signal leaves at once")
	})
	defer quiet()
	return pipeline.Each(ctx, func(yield func(sample.Request, error) bool) {
		for i, r := range rounds {
			q, err := first, l.failed
			if i > 0 && err == nil {
				q, err = l.request(r)
			}
			q.OnStep = func(i, _ int, latents func() ([]float32, error)) { step(r, i, latents) }
			if !yield(q, err) {
				return
			}
		}
		if l.failed != nil {
			yield(sample.Request{}, l.failed)
		}
	})
}
