package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"limner/controlnet/condition"
	"limner/data/imaging"
	"limner/sample"
)

// validator draws and measures.
type validator struct {
	Validation
	outputDir  string
	writes     bool             // in this process
	pipeline   *sample.Pipeline // nil: no images
	request    sample.Request
	conditions []*shownPicture     // of each prompt; nil: none
	targets    []*shownPicture     // likewise
	condition  condition.Condition // that is taken from the images again
	evaluator  *evaluator          // nil: no loss
	// newControlNet says that the ControlNet changes nothing before the first step.
	newControlNet bool
	written       *telemetry
}

// shownPicture is a picture that validation does not draw, and shows beside what it draws.
type shownPicture struct {
	image   *imaging.RGB
	name    string // in the folder of validations
	written string // file below the output folder; "" until it is written
}

// readPictures reads pictures at the size that validation draws in.
func readPictures(decoding imaging.Decoding, paths []string, kind string, side int) ([]*shownPicture, error) {
	var pictures []*shownPicture
	for i, path := range paths {
		_, m, err := decoding.DecodeFile(path)
		if err == nil {
			m, err = imaging.Resize(m, side, side, imaging.Lanczos)
		}
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, &shownPicture{image: m, name: fmt.Sprintf("%s-%02d.png", kind, i)})
	}
	return pictures, nil
}

// newValidator prepares validation; nil if none is wanted.
func newValidator(ctx context.Context, run Run, networks Networks, written *telemetry) (*validator, error) {
	v := &validator{
		Validation: run.Validation, outputDir: run.OutputDir, writes: run.Writes, written: written,
		newControlNet: networks.NewControlNet,
	}
	if !v.wanted() {
		return nil, nil
	}
	if len(v.Prompts) > 0 {
		if err := v.prepareImages(ctx, networks); err != nil {
			return nil, fmt.Errorf("prepare validation images: %w", err)
		}
	}
	if len(v.Data) > 0 {
		var err error
		if v.evaluator, err = newEvaluator(ctx, networks, v.Rows); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare the validation loss: %w", err), v.close())
		}
	}
	return v, nil
}

// prepareImages compiles the pipeline, which reads the parameters where training has them.
func (v *validator) prepareImages(ctx context.Context, networks Networks) error {
	model := networks.Drawing(networks.Step.Resident())
	model.Log = networks.Log
	side := networks.Resolution
	prompts, images := v.pairs()
	decoding, err := imaging.NewDecoding(networks.Background)
	if err != nil {
		return err
	}
	if v.Condition != "" {
		spec, err := condition.Parse(v.Condition)
		if err != nil {
			return fmt.Errorf("validation_condition: %w", err)
		}
		v.condition = spec.Draw(networks.Seed, 0, 0)
	}
	if v.conditions, err = readPictures(decoding, images, "condition", side); err != nil {
		return fmt.Errorf("validation_image: %w", err)
	}
	if v.targets, err = readPictures(decoding, v.Targets, "target", side); err != nil {
		return fmt.Errorf("validation_target: %w", err)
	}
	r := sample.DefaultRequest()
	r.Scheduler, r.NumInferenceSteps, r.GuidanceScale = v.Scheduler, v.NumInferenceSteps, v.GuidanceScale
	var conditions []float32
	for i, prompt := range prompts {
		for range v.NumImages {
			r.Prompts, r.Seeds = append(r.Prompts, prompt), append(r.Seeds, networks.Seed+uint64(len(r.Seeds)))
			if v.conditions != nil {
				conditions = imaging.AppendCondition(conditions, v.conditions[i].image)
			}
		}
	}
	if conditions != nil {
		r.Conditions = [][]float32{conditions}
	}
	v.request = r
	devices := networks.Backend.Devices()
	batch := (min(len(r.Prompts), 4*devices) + devices - 1) / devices * devices
	v.pipeline, err = sample.New(ctx, networks.Backend, model, sample.Shape{Batch: batch, Height: side, Width: side}, r)
	return err
}

// validate draws and measures after a step. Before the first step, 0, it draws alone.
func (v *validator) validate(ctx context.Context, step int) (Validated, error) {
	start := time.Now()
	out := Validated{Step: step}
	if v.evaluator != nil && step > 0 {
		losses, err := v.evaluator.run(ctx)
		if err != nil {
			return out, err
		}
		mean := 0.0
		for _, l := range losses {
			mean += l.Loss / float64(len(losses))
		}
		out.Losses, out.Loss = losses, &mean
	}
	if v.pipeline != nil {
		if err := v.draw(ctx, &out); err != nil {
			return out, err
		}
	}
	out.Seconds = time.Since(start).Seconds()
	return out, nil
}

// draw draws the images of a validation.
func (v *validator) draw(ctx context.Context, out *Validated) error {
	result, err := v.pipeline.Sample(ctx, v.request)
	if err != nil {
		return err
	}
	for _, p := range slices.Concat(v.conditions, v.targets) {
		if p.written == "" {
			p.written = v.write(filepath.Join(validationDir, p.name), p.image)
		}
	}
	dir := filepath.Join(validationDir, fmt.Sprintf("step-%06d", out.Step))
	var references []*imaging.RGB
	for i, m := range result.Images {
		image := ValidatedImage{
			File: filepath.Join(dir, fmt.Sprintf("%02d.png", i)), Prompt: v.request.Prompts[i],
			Seed: v.request.Seeds[i],
		}
		if v.conditions != nil {
			references = append(references, v.conditions[i/v.NumImages].image)
			image.Condition = v.conditions[i/v.NumImages].written
		}
		if v.targets != nil {
			image.Target = v.targets[i/v.NumImages].written
		}
		if problem := result.Problems[i]; problem != nil {
			image.Problem = problem.Error()
		}
		image.File = v.write(image.File, m)
		out.Images = append(out.Images, image)
	}
	if v.Condition != "" {
		f, err := fidelity(v.condition, references, result.Images)
		if err != nil {
			return err
		}
		out.Fidelity = &f
		if out.Step == 0 {
			return v.baseline(ctx, out, references)
		}
	}
	return nil
}

// baseline measures the images without the ControlNet. A new ControlNet changes nothing before the first step, since
// its zero convolutions are zero: so its images are taken as those without it.
func (v *validator) baseline(ctx context.Context, out *Validated, references []*imaging.RGB) error {
	if v.newControlNet {
		out.Baseline = out.Fidelity
		return nil
	}
	without := v.request
	without.ControlNetConditioningScale = []float64{0}
	result, err := v.pipeline.Sample(ctx, without)
	if err != nil {
		return err
	}
	f, err := fidelity(v.condition, references, result.Images)
	out.Baseline = &f
	return err
}

// write writes a picture below the output folder, in the process that leads, and returns its name; "" where that fails.
func (v *validator) write(name string, m *imaging.RGB) (written string) {
	if !v.writes {
		return name
	}
	path := filepath.Join(v.outputDir, name)
	v.written.try("a picture of validation", func() error {
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = imaging.WritePNG(path, m)
		}
		if err == nil {
			written = name
		}
		return err
	})
	return written
}

func (v *validator) close() error {
	var errs []error
	if v.pipeline != nil {
		errs = append(errs, v.pipeline.Close())
	}
	if v.evaluator != nil {
		errs = append(errs, v.evaluator.close())
	}
	return errors.Join(errs...)
}
