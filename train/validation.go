package train

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"limner/controlnet/condition"
	"limner/data/imaging"
	"limner/internal/disk"
	"limner/models/clip"
	"limner/sample"
)

// Validation says what a run draws and measures every some steps, under the flags' names of diffusers' scripts where those have one.
type Validation struct {
	Steps             int // between validations
	Prompts           []string
	Images            []string // files of conditioning images: one for each prompt, or one for all; one prompt may go with all
	NumImages         int      // for each prompt
	NumInferenceSteps int
	GuidanceScale     float64
	Scheduler         string
	Condition         string   // what the conditioning images show, see [condition.Named]; "" measures nothing
	Data              []string // parquet files or folders of images that training does not see, for the loss
	Rows              int      // of them
}

// DefaultValidation has the defaults of diffusers' train_controlnet.py, whose validation draws with UniPC in 20 steps.
func DefaultValidation() Validation {
	return Validation{Steps: 100, NumImages: 4, NumInferenceSteps: 20, GuidanceScale: sample.DefaultRequest().GuidanceScale, Scheduler: "unipc", Rows: 256}
}

// wanted says whether there is anything to validate.
func (v Validation) wanted() bool { return len(v.Prompts) > 0 || len(v.Data) > 0 }

// Validate reports every field that is out of range or does not fit another. control is whether a ControlNet is trained.
func (v Validation) Validate(control bool) error {
	if !v.wanted() {
		if len(v.Images) > 0 {
			return errors.New("validation_image needs validation_prompt")
		}
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, n := range map[string]int{
		"validation_steps": v.Steps, "num_validation_images": v.NumImages, "validation_inference_steps": v.NumInferenceSteps, "validation_rows": v.Rows,
	} {
		if n < 1 {
			bad("%s: got %d, want at least 1", name, n)
		}
	}
	for _, prompt := range v.Prompts {
		if clip.HasLoRATag(prompt) {
			bad("validation_prompt: %q names a LoRA by <lora:…>, which is not applied here: take it out", prompt)
		}
	}
	const mostImages, mostSteps = 1000, 10_000
	if v.NumImages > mostImages {
		bad("num_validation_images: got %d, want 1 to %d", v.NumImages, mostImages)
	}
	if v.NumInferenceSteps > mostSteps {
		bad("validation_inference_steps: got %d, want 1 to %d", v.NumInferenceSteps, mostSteps)
	}
	if s := v.GuidanceScale; !(s >= 0 && s <= 1000) {
		bad("validation_guidance_scale: got %g, want 0 to 1000", s)
	}
	prompts, images := len(v.Prompts), len(v.Images)
	switch {
	case prompts > 0 && control && images == 0:
		bad("validation_prompt: a ControlNet draws with validation_image")
	case !control && images > 0:
		bad("validation_image: only a ControlNet draws with images")
	case images > 1 && prompts > 1 && images != prompts:
		bad("validation_image: got %d images for %d prompts, want one for each, or one of either", images, prompts)
	}
	if v.Condition != "" {
		if _, err := condition.Named(v.Condition); err != nil {
			errs = append(errs, fmt.Errorf("validation_condition: %w", err))
		}
		if images == 0 {
			bad("validation_condition needs validation_image")
		}
	}
	return errors.Join(errs...)
}

// pairs are the prompts and the images that go together.
func (v Validation) pairs() (prompts, images []string) {
	n := max(len(v.Prompts), len(v.Images))
	for i := range n {
		prompts = append(prompts, v.Prompts[min(i, len(v.Prompts)-1)])
		if len(v.Images) > 0 {
			images = append(images, v.Images[min(i, len(v.Images)-1)])
		}
	}
	return prompts, images
}

// Validated is what came of a validation: a line of validation.jsonl.
type Validated struct {
	Step     int              `json:"step"`
	Seconds  float64          `json:"seconds"`
	Images   []ValidatedImage `json:"images,omitempty"`
	Fidelity *Fidelity        `json:"condition_fidelity,omitempty"`
	Loss     *float64         `json:"loss,omitempty"` // the mean of Losses
	Losses   []RangeLoss      `json:"loss_by_timesteps,omitempty"`
}

// ValidatedImage is an image that a validation drew.
type ValidatedImage struct {
	File      string `json:"file"` // below the output folder; "" where it could not be written
	Prompt    string `json:"prompt"`
	Condition string `json:"condition,omitempty"` // file of the conditioning image, below the output folder
	Seed      uint64 `json:"seed"`
	Problem   string `json:"problem,omitempty"` // what is wrong with it
}

// RangeLoss is the loss of held-out rows at timesteps from From up to To.
type RangeLoss struct {
	From int     `json:"from"`
	To   int     `json:"to"`
	Loss float64 `json:"loss"`
}

// String says it in a line.
func (v Validated) String() string {
	words := []string{fmt.Sprintf("validation at step %d (%.1f s)", v.Step, v.Seconds)}
	if v.Loss != nil {
		words = append(words, fmt.Sprintf("loss %.4f", *v.Loss))
	}
	if f := v.Fidelity; f != nil {
		words = append(words, fmt.Sprintf("condition followed: F1 %.2f, precision %.2f, recall %.2f", f.F1, f.Precision, f.Recall))
	}
	for _, image := range v.Images {
		if image.Problem != "" {
			words = append(words, image.Problem)
		}
	}
	return strings.Join(words, ", ")
}

// The files of validations below the output folder.
const (
	validationName = "validation.jsonl"
	validationDir  = "validation"
)

// readValidations reads the validations up to a step, and drops later ones, which will be made again.
func readValidations(outputDir string, step int) ([]Validated, error) {
	path := filepath.Join(outputDir, validationName)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	var kept []Validated
	var text []byte
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var v Validated
		if json.Unmarshal(lines.Bytes(), &v) == nil && v.Step <= step {
			kept, text = append(kept, v), append(append(text, lines.Bytes()...), '\n')
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return kept, disk.WriteFile(path, text, 0o644)
}

// appendValidation adds a line to validation.jsonl.
func appendValidation(outputDir string, v Validated) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return appendLine(filepath.Join(outputDir, validationName), line)
}

// events shows a validation in TensorBoard.
func (v Validated) events(e *events, outputDir string) error {
	numbers := map[string]float64{"validation/seconds": v.Seconds}
	if v.Loss != nil {
		numbers["validation/loss"] = *v.Loss
	}
	for _, r := range v.Losses {
		numbers[fmt.Sprintf("validation/loss_%04d_%04d", r.From, r.To)] = r.Loss
	}
	if f := v.Fidelity; f != nil {
		numbers["validation/condition_f1"], numbers["validation/condition_precision"], numbers["validation/condition_recall"] = f.F1, f.Precision, f.Recall
	}
	if err := e.scalars(v.Step, numbers); err != nil {
		return err
	}
	for i, image := range v.Images {
		if image.File == "" { // it could not be written
			continue
		}
		raw, m, err := readPicture(filepath.Join(outputDir, image.File), imaging.Decoding{})
		if err != nil {
			return err
		}
		if err := e.image(v.Step, fmt.Sprintf("validation/%02d", i), raw, m.Width, m.Height); err != nil {
			return err
		}
	}
	return nil
}

func readPicture(path string, decoding imaging.Decoding) ([]byte, *imaging.RGB, error) {
	raw, err := imaging.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	m, _, err := decoding.Decode(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return raw, m, nil
}

// validator draws and measures.
type validator struct {
	Validation
	run        *Run
	outputDir  string
	seed       uint64
	pipeline   *sample.Pipeline // nil: no images
	request    sample.Request
	conditions []*imaging.RGB // of each prompt
	names      []string       // their files below the output folder
	extract    condition.Extractor
	evaluator  *evaluator // nil: no loss
	written    *telemetry
}

// newValidator prepares validation; nil if none is wanted.
func newValidator(ctx context.Context, r *Run, s *stepper, o Options, written *telemetry) (*validator, error) {
	v := &validator{Validation: r.Recipe.Watch.Validation, run: r, outputDir: o.OutputDir, seed: o.Seed, written: written}
	if !v.wanted() {
		return nil, nil
	}
	if len(v.Prompts) > 0 {
		if err := v.prepareImages(ctx, s); err != nil {
			return nil, fmt.Errorf("prepare validation images: %w", err)
		}
	}
	if len(v.Data) > 0 {
		var err error
		if v.evaluator, err = newEvaluator(ctx, r, s); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare the validation loss: %w", err), v.close())
		}
	}
	return v, nil
}

// prepareImages compiles the pipeline, which reads the parameters where training has them.
func (v *validator) prepareImages(ctx context.Context, s *stepper) error {
	model := v.run.Drawing(s.resident())
	model.Log = v.run.Log
	side := v.run.Recipe.Resolution
	prompts, images := v.pairs()
	decoding, err := imaging.NewDecoding(v.run.Recipe.Columns.Background)
	if err != nil {
		return err
	}
	if v.Condition != "" {
		if v.extract, err = condition.Named(v.Condition); err != nil {
			return fmt.Errorf("validation_condition: %w", err)
		}
	}
	for _, path := range images {
		_, m, err := readPicture(path, decoding)
		if err == nil {
			m, err = imaging.Resize(m, side, side, imaging.Lanczos)
		}
		if err != nil {
			return fmt.Errorf("validation_image: %w", err)
		}
		v.conditions, v.names = append(v.conditions, m), append(v.names, "")
	}
	r := sample.DefaultRequest()
	r.Scheduler, r.NumInferenceSteps, r.GuidanceScale = v.Scheduler, v.NumInferenceSteps, v.GuidanceScale
	var conditions []float32
	for i, prompt := range prompts {
		for range v.NumImages {
			r.Prompts, r.Seeds = append(r.Prompts, prompt), append(r.Seeds, v.seed+uint64(len(r.Seeds)))
			if v.conditions != nil {
				conditions = imaging.AppendCondition(conditions, v.conditions[i])
			}
		}
	}
	if conditions != nil {
		r.Conditions = [][]float32{conditions}
	}
	v.request = r
	devices := v.run.Backend.Devices()
	batch := (min(len(r.Prompts), 4*devices) + devices - 1) / devices * devices
	v.pipeline, err = sample.New(ctx, v.run.Backend, model, sample.Shape{Batch: batch, Height: side, Width: side}, r)
	return err
}

// validate draws and measures after a step.
func (v *validator) validate(ctx context.Context, s *stepper, step int) (Validated, error) {
	start := time.Now()
	out := Validated{Step: step}
	if v.evaluator != nil {
		losses, err := v.evaluator.run(ctx, v.run, s)
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
	for i, m := range v.conditions {
		if v.names[i] == "" {
			v.names[i] = v.write(filepath.Join(validationDir, fmt.Sprintf("condition-%02d.png", i)), m)
		}
	}
	dir := filepath.Join(validationDir, fmt.Sprintf("step-%06d", out.Step))
	var references []*imaging.RGB
	for i, m := range result.Images {
		image := ValidatedImage{File: filepath.Join(dir, fmt.Sprintf("%02d.png", i)), Prompt: v.request.Prompts[i], Seed: v.request.Seeds[i]}
		if v.conditions != nil {
			references = append(references, v.conditions[i/v.NumImages])
			image.Condition = v.names[i/v.NumImages]
		}
		if problem := result.Problems[i]; problem != nil {
			image.Problem = problem.Error()
		}
		image.File = v.write(image.File, m)
		out.Images = append(out.Images, image)
	}
	if v.extract != nil {
		f := fidelity(v.extract, references, result.Images)
		out.Fidelity = &f
	}
	return nil
}

// write writes a picture below the output folder, in the process that leads, and returns its name; "" where that fails.
func (v *validator) write(name string, m *imaging.RGB) (written string) {
	if !v.run.leads() {
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
