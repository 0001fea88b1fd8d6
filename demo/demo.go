package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"limner/data/circles"
	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/settings"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/sample"
	"limner/train"
	"limner/train/optim"
	"limner/train/watch"
	"limner/xla"
)

// Options say how the demo trains and samples: flags of limner demo.
type Options struct {
	OutputDir         string  `json:"-" default:"limner-demo" placeholder:"DIR" help:"Folder for everything that the demo makes."`
	Seed              uint64  `json:"seed" default:"7" help:"Of everything random."`
	Images            int     `json:"images" default:"3000" help:"Pictures in the dataset."`
	Steps             int     `json:"max_train_steps" name:"max-train-steps" default:"800" help:"Steps of the ControlNet's training."`
	Batch             int     `json:"train_batch_size" name:"train-batch-size" default:"16" help:"Images of a step."`
	LearningRate      float64 `json:"learning_rate" default:"2e-3" help:"Of AdamW."`
	Cases             int     `json:"cases" default:"64" help:"Unseen prompts and outlines to sample."`
	NumInferenceSteps int     `json:"num_inference_steps" default:"16" help:"Denoising steps."`
	GuidanceScale     float64 `json:"guidance_scale" default:"2" help:"Of classifier-free guidance."`
}

// DefaultOptions take some minutes on two cores.
func DefaultOptions() Options { return settings.Default[Options]() }

// Validate reports every option out of range.
func (o Options) Validate() error {
	var errs []error
	for name, value := range map[string]int{
		"images": o.Images, "max_train_steps": o.Steps, "train_batch_size": o.Batch, "cases": o.Cases,
		"num_inference_steps": o.NumInferenceSteps,
	} {
		if value < 1 {
			errs = append(errs, fmt.Errorf("%s: got %d, want at least 1", name, value))
		}
	}
	if o.Images < o.Batch {
		errs = append(errs, fmt.Errorf("images: got %d, want at least train_batch_size %d", o.Images, o.Batch))
	}
	return errors.Join(errs...)
}

// circles is the dataset; examples after its Count are the cases that training never sees.
func (o Options) circles() circles.Set {
	c := circles.Default()
	c.Count, c.Size, c.Seed = o.Images, Size, o.Seed
	return c
}

// Report is what the demo measured, as report.json has it.
type Report struct {
	// mean intersection over union of the disc asked for and the sampled one
	IoUWith     float64            `json:"iou_with"`
	IoUWithout  float64            `json:"iou_without"`  // the same without the ControlNet
	ColourMatch float64            `json:"colour_match"` // share of images with both colours nearest to the named ones
	Seconds     map[string]float64 `json:"seconds"`
	Loss        float64            `json:"loss"` // mean of the last hundred steps
	Options     Options            `json:"options"`
}

// The names in the demo's folder.
const (
	baseName    = "base"
	dataName    = "data"
	latentsName = "latents" // kept for the next demo, which finds its latents by the pixels
	controlName = "controlnet"
	gridName    = "grid.png"
	lossName    = "loss.png"
	reportName  = "report.json"
	casesName   = "cases" // pictures of unseen cases that the training draws on its way
)

// caseScheduler is what unseen cases are sampled with.
const caseScheduler = "ddim"

// Do makes a dataset, trains a ControlNet for the shipped base model, and samples cases that training never saw, with
// the ControlNet and without. An interrupted demo continues where it stopped; a finished one starts anew.
func Do(ctx context.Context, b *xla.Backend, o Options, h Hooks) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := prepareFolder(o); err != nil {
		return nil, err
	}
	report := &Report{Options: o, Seconds: map[string]float64{}}
	start := time.Now()
	phase := func(key, name string, work func() error) error {
		h.Phase(name)
		begin := time.Now()
		err := work()
		report.Seconds[key] = time.Since(begin).Seconds()
		return err
	}
	err := phase("dataset", "writing the dataset", func() error { return makeDataset(ctx, o, h) })
	if err != nil {
		return nil, err
	}
	var run *train.Run
	err = phase("encode", "encoding the dataset", func() error {
		run, err = prepareControlNet(ctx, b, o, h)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer run.Close()
	if err := phase("train", "training the ControlNet", func() error { return run.Do(ctx) }); err != nil {
		return nil, err
	}
	if report.Loss, err = finalLoss(filepath.Join(o.OutputDir, controlName)); err != nil {
		return nil, err
	}
	set := o.circles()
	cases := unseen(set, o.Cases)
	var with, without []*imaging.RGB
	err = phase("sample", "sampling what training never saw", func() error {
		with, without, err = sampleCases(ctx, b, o, h, cases)
		return err
	})
	if err != nil {
		return nil, err
	}
	if report.IoUWith, report.IoUWithout, report.ColourMatch, err = score(set, cases, with, without); err != nil {
		return nil, err
	}
	grid, err := picture(cases, with, without)
	if err != nil {
		return nil, err
	}
	if err := imaging.WritePNG(filepath.Join(o.OutputDir, gridName), grid); err != nil {
		return nil, err
	}
	if err := plotLoss(o.OutputDir); err != nil {
		return nil, err
	}
	report.Seconds["total"] = time.Since(start).Seconds()
	return report, checkpoint.WriteJSON(filepath.Join(o.OutputDir, reportName), report)
}

// prepareFolder makes the folder, or removes a finished demo from it, except for the latents, and for the dataset if
// the next demo has the same. It fails if the folder holds anything else.
func prepareFolder(o Options) error {
	dir := o.OutputDir
	entries, err := disk.Content(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, 0o755)
	} else if err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	own := map[string]bool{
		baseName: true, dataName: true, latentsName: true, controlName: true, gridName: true,
		lossName: true, reportName: true, casesName: true,
	}
	finished := false
	for _, entry := range entries {
		if !own[entry.Name()] {
			return fmt.Errorf("output folder %s holds something else (%s): give another --output_dir",
				dir, entry.Name())
		}
		finished = finished || entry.Name() == reportName
	}
	if !finished {
		return nil
	}
	old := []string{controlName, gridName, lossName, baseName, casesName}
	if same, err := circles.Has(o.circles(), filepath.Join(dir, dataName)); err != nil || !same {
		old = append(old, dataName)
	}
	// The report is removed last, so that an interrupted removal is continued.
	for _, name := range append(old, reportName) {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("clear the last demo: %w", err)
		}
	}
	return nil
}

// makeDataset puts the base model and the dataset into the folder.
func makeDataset(ctx context.Context, o Options, h Hooks) error {
	if err := UnpackBase(filepath.Join(o.OutputDir, baseName)); err != nil {
		return err
	}
	return circles.Write(ctx, o.circles(), filepath.Join(o.OutputDir, dataName), h.Count)
}

func prepareControlNet(ctx context.Context, b *xla.Backend, o Options, h Hooks) (*train.Run, error) {
	r := recipe(h, filepath.Join(o.OutputDir, baseName), filepath.Join(o.OutputDir, dataName))
	r.FromScratch, r.CacheLatents = false, true
	if b.Process().Alone() { // the machines of a slice encode together
		r.CacheDir = filepath.Join(o.OutputDir, latentsName)
	}
	r.EmbeddingChannels = []int{16, 32, 64, 64}
	if err := showCases(o, &r.Watch); err != nil {
		return nil, err
	}
	t := train.DefaultOptions()
	t.OutputDir, t.Seed, t.Batch, t.MaxTrainSteps = filepath.Join(o.OutputDir, controlName), o.Seed, o.Batch, o.Steps
	t.LearningRate = o.LearningRate
	t.Schedule = optim.Schedule{Name: "cosine", Warmup: min(20, o.Steps/10)}
	t.CheckpointingSteps, t.CheckpointsTotalLimit = max(1, o.Steps/2), 1
	t.ResumeFromCheckpoint = "latest"
	return train.NewControlNet(ctx, b, t, r)
}

// shownCases is how many of the unseen cases the training's diary shows, at shownTimes points of the training.
const (
	shownCases = 4
	shownTimes = 5
)

// showCases has the training draw some of the unseen cases on its way, beside their outlines and their pictures.
func showCases(o Options, w *watch.Options) error {
	dir := filepath.Join(o.OutputDir, casesName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	v := watch.DefaultValidation()
	v.Steps, v.NumImages, v.Scheduler = max(1, o.Steps/shownTimes), 1, caseScheduler
	v.NumInferenceSteps, v.GuidanceScale, v.Condition = o.NumInferenceSteps, o.GuidanceScale, "outline"
	for i, c := range unseen(o.circles(), min(shownCases, o.Cases)) {
		outline := filepath.Join(dir, fmt.Sprintf("%d-outline.png", i))
		whole := filepath.Join(dir, fmt.Sprintf("%d.png", i))
		err := errors.Join(imaging.WritePNG(outline, c.Condition()), imaging.WritePNG(whole, c.Image()))
		if err != nil {
			return err
		}
		v.Prompts, v.Images = append(v.Prompts, c.Caption()), append(v.Images, outline)
		v.Targets = append(v.Targets, whole)
	}
	w.Title, w.Validation = "limner demo", v
	return nil
}

// unseen are examples after those of the dataset.
func unseen(set circles.Set, n int) []circles.Circle {
	cases := make([]circles.Circle, n)
	for i := range cases {
		cases[i] = set.Example(set.Count + i)
	}
	return cases
}

// sampleCases samples every case with the ControlNet, then from the same noise with its residuals scaled to 0.
func sampleCases(ctx context.Context, b *xla.Backend, o Options, h Hooks,
	cases []circles.Circle) (with, without []*imaging.RGB, err error) {
	model, err := diffusers.Open(filepath.Join(o.OutputDir, baseName))
	if err != nil {
		return nil, nil, err
	}
	values, err := model.Load(diffusers.UNet, diffusers.VAE, diffusers.TextEncoder)
	if err != nil {
		return nil, nil, err
	}
	control, weights, err := diffusers.OpenControlNet(filepath.Join(o.OutputDir, controlName))
	if err != nil {
		return nil, nil, err
	}
	batch := roundUp(min(len(cases), 32), b.Devices())
	r := sample.DefaultRequest()
	r.Scheduler, r.NumInferenceSteps, r.GuidanceScale = caseScheduler, o.NumInferenceSteps, o.GuidanceScale
	var conditions []float32
	for i, c := range cases {
		r.Prompts = append(r.Prompts, c.Caption())
		r.Seeds = append(r.Seeds, o.Seed+uint64(i))
		conditions = imaging.AppendCondition(conditions, c.Condition())
	}
	r.Conditions = [][]float32{conditions}
	controlled := sample.Model{Pipeline: model, Weights: checkpoint.InMemory(nn.Merge(values, weights)), Log: h.Log}
	controlled.ControlNets = append(controlled.ControlNets, control)
	p, err := sample.New(ctx, b, controlled, sample.Shape{Batch: batch, Height: Size, Width: Size}, r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	done := 0
	for i, images := range []*[]*imaging.RGB{&with, &without} {
		r.ControlNetConditioningScale = []float64{float64(1 - i)}
		r.OnStep = func(step, total int, _ func() ([]float32, error)) { h.Count(done+step, 2*total) }
		result, err := p.Sample(ctx, r)
		if err == nil {
			err = result.Err()
		}
		if err != nil {
			return nil, nil, err
		}
		*images = result.Images
		done += o.NumInferenceSteps * ((len(cases) + batch - 1) / batch)
	}
	return with, without, nil
}

func roundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }
