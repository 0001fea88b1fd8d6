package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"limner/data/circles"
	"limner/data/imaging"
	"limner/internal/parity"
	"limner/models/diffusers"
	"limner/sample"
	"limner/train/loss"
	"limner/train/watch"
	"limner/xla"
)

// watched lets a small run show all that it can.
func watched(t *testing.T, r *Recipe) {
	t.Helper()
	c := circles.Default()
	c.Size = 16
	condition := filepath.Join(t.TempDir(), "condition.png")
	if err := imaging.WritePNG(condition, c.Example(0).Condition()); err != nil {
		t.Fatal(err)
	}
	v := watch.DefaultValidation()
	v.Steps, v.NumImages, v.NumInferenceSteps, v.GuidanceScale = 4, 2, 2, 2
	v.Prompts, v.Images, v.Condition = []string{"red circle", "blue circle"}, []string{condition}, "outline"
	v.Data, v.Rows = []string{smallDataset(t)}, 8
	r.Watch = watch.Options{
		LoggingDir: "logs", MetricsAddress: "127.0.0.1:0", ProfileSteps: 2, PeakTFLOPs: 1, Validation: v,
	}
}

// What is shown of a run changes nothing of it, and goes on where a run was stopped.
func TestWatchedRun(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	plain, r, _ := smallRun(t, model, dataset)
	if err := do(t, context.Background(), b, NewControlNet, plain, r); err != nil {
		t.Fatal(err)
	}

	o, r, log := smallRun(t, model, dataset)
	watched(t, &r)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	address := regexp.MustCompile(`http://[^ ]+/metrics`)
	numbers := ""
	r.OnStep = func(p watch.Progress) {
		if p.Step == 5 {
			cancel()
			response, err := http.Get(address.FindString(log.String()))
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			raw, err := io.ReadAll(response.Body)
			if err != nil {
				t.Error(err)
			}
			numbers = string(raw)
		}
	}
	if err := do(t, ctx, b, NewControlNet, o, r); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("stopped: got %v", err)
	}
	for _, want := range []string{
		"limner_step 5\n", "limner_steps 6\n", "limner_last_validation_step 4\n", "limner_images_seen 20\n",
	} {
		if !strings.Contains(numbers, want) {
			t.Errorf("Prometheus' numbers have no %q:\n%s", want, numbers)
		}
	}
	r.OnStep = nil
	o.ResumeFromCheckpoint = "latest"
	if err := do(t, context.Background(), b, NewControlNet, o, r); err != nil {
		t.Fatal(err)
	}
	const result = "diffusion_pytorch_model.safetensors"
	if files(t, o.OutputDir)[result] != files(t, plain.OutputDir)[result] {
		t.Error("watching changed the result")
	}
	checkValidations(t, o.OutputDir)
	again, r, _ := smallRun(t, model, dataset)
	watched(t, &r)
	r.ControlNet, again.MaxTrainSteps, r.Watch.MetricsAddress = o.OutputDir, 1, ""
	if err := do(t, context.Background(), b, NewControlNet, again, r); err != nil {
		t.Fatal(err)
	}
	checkBaseline(t, o.OutputDir, again.OutputDir)
	checkDiary(t, o.OutputDir)
	checkCleared(t, o)
}

// checkCleared fails unless a start removes what a kill leaves of each file of a run.
func checkCleared(t *testing.T, o Options) {
	t.Helper()
	var left []string
	for name := range files(t, o.OutputDir) {
		if strings.HasPrefix(name, "logs") || strings.HasPrefix(name, "checkpoint-") {
			continue
		}
		path := filepath.Join(o.OutputDir, filepath.Dir(name), "."+filepath.Base(name)+"5577006791947779410")
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		left = append(left, path)
	}
	lock, err := o.output().Own()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s stays in the output folder: %v", path, err)
		}
	}
}

// checkBaseline fails unless a run that goes on from the ControlNet of another begins with images that follow it, and
// has the same baseline.
func checkBaseline(t *testing.T, was, dir string) {
	t.Helper()
	a, b := readValidations(t, was), readValidations(t, dir)
	if len(b) != 2 || b[0].Baseline == nil || *b[0].Baseline != *a[0].Baseline {
		t.Fatalf("got %+v, want the baseline %v", b, a[0].Baseline)
	}
	begun, ended := files(t, dir)["validation/step-000000/00.png"], files(t, was)["validation/step-000006/00.png"]
	if begun == "" || begun != ended {
		t.Error("the images before the first step are not those of the ControlNet that it begins with")
	}
}

func readValidations(t *testing.T, dir string) []watch.Validated {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "validation.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var validated []watch.Validated
	for line := range bytes.Lines(raw) {
		var v watch.Validated
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		validated = append(validated, v)
	}
	return validated
}

func checkValidations(t *testing.T, dir string) {
	t.Helper()
	validated := readValidations(t, dir)
	if len(validated) != 3 {
		t.Fatalf("%d validations", len(validated))
	}
	pictures := files(t, dir)
	first := validated[0]
	if first.Step != 0 || first.Loss != nil || first.Fidelity == nil || first.Baseline == nil ||
		*first.Fidelity != *first.Baseline || len(first.Images) != 4 {
		t.Fatalf("before the first step: got %+v", first)
	}
	for i, step := range []int{4, 6} {
		v := validated[1+i]
		if v.Baseline == nil || *v.Baseline != *first.Baseline {
			t.Errorf("step %d: baseline %v, want %v", step, v.Baseline, first.Baseline)
		}
		if v.Step != step || v.Loss == nil || len(v.Losses) != 4 ||
			v.Losses[3] != (watch.RangeLoss{From: 750, To: 1000, Loss: v.Losses[3].Loss}) || v.Fidelity == nil ||
			len(v.Images) != 4 {
			t.Fatalf("got %+v", v)
		}
		for k, image := range v.Images {
			if image.File != fmt.Sprintf("validation/step-%06d/%02d.png", step, k) || pictures[image.File] == "" ||
				pictures[image.Condition] == "" || image.Seed != 3+uint64(k) {
				t.Errorf("image %d: %+v", k, image)
			}
		}
	}
	if pictures["validation/step-000004/00.png"] == pictures["validation/step-000006/00.png"] {
		t.Error("the weights changed, the image did not")
	}
	events := 0
	for name := range pictures {
		if strings.HasPrefix(name, "logs/events.out.tfevents.") {
			events++
		}
	}
	if events != 2 {
		t.Errorf("%d files of events for two processes", events)
	}
	var trace struct{ TraceEvents []json.RawMessage }
	if err := json.Unmarshal([]byte(pictures["profile/trace.json"]), &trace); err != nil ||
		len(trace.TraceEvents) != 3*2 {
		t.Errorf("profile: %d events, %v", len(trace.TraceEvents), err)
	}
}

func checkDiary(t *testing.T, dir string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "diary.html"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, want := range []string{"step 6 of 6, epoch 1, 24 images seen", `"title":"condition followed"`, `"name":"held-out rows","faint":false,"points":[[4,`, "share of the peak", "&#34;dataset&#34;"} {
		if !strings.Contains(page, want) {
			t.Errorf("the diary has no %s", want)
		}
	}
	// Of validations, and of the rows since the stop.
	if n := strings.Count(page, "data:image/jpeg;base64,"); n != 3*(4+2)+4*2 {
		t.Errorf("the diary has %d images", n)
	}
	if strings.Contains(page, filepath.Dir(dir)+"/") {
		t.Error("the diary says where files lie")
	}
	if strings.Contains(page, "http://") && strings.Count(page, "http://") != strings.Count(page, `"http://www.w3.org/2000/svg"`) || strings.Contains(page, "https://") {
		t.Error("the diary needs the network")
	}
}

// drawingAgain is a pipeline as limner sample makes it, and the request for the first image of a validation.
func drawingAgain(t *testing.T, b *xla.Backend, m sample.Model, o Options,
	v watch.Validation) (*sample.Pipeline, sample.Request) {
	t.Helper()
	weights, err := m.Pipeline.Weights(m.Pipeline.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	defer weights.Close()
	m.Weights = weights
	request := sample.DefaultRequest()
	request.Prompts, request.Seeds, request.Scheduler, request.NumInferenceSteps = v.Prompts, []uint64{o.Seed},
		v.Scheduler, v.NumInferenceSteps
	p, err := sample.New(context.Background(), b, m, sample.Shape{Batch: 1, Height: 16, Width: 16}, request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, request
}

func drawOne(t *testing.T, p *sample.Pipeline, request sample.Request) *imaging.RGB {
	t.Helper()
	result, err := p.Sample(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	return result.Images[0]
}

// validated is the first image that a validation drew after a step.
func validated(t *testing.T, o Options, step int) *imaging.RGB {
	t.Helper()
	_, m, err := imaging.Decoding{}.DecodeFile(filepath.Join(o.OutputDir, "validation",
		fmt.Sprintf("step-%06d", step), "00.png"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What a LoRA's validation draws at the end is what limner sample draws with the LoRA that was saved.
func TestValidationWithLoRA(t *testing.T) {
	path, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	o, r, log := smallRun(t, path, dataset)
	o.EMA, o.MaxTrainSteps, o.LearningRate = nil, 2, 0.1
	r.LoRA, r.LoRAFormat = &loss.LoRA{
		Rank: 2, Alpha: 4, Targets: loss.AttentionTargets, TextTargets: loss.TextEncoderTargets,
	}, "diffusers"
	v := watch.DefaultValidation()
	v.Steps, v.NumImages, v.NumInferenceSteps, v.Prompts = 2, 1, 2, []string{"red circle"}
	r.Watch.Validation = v
	if err := do(t, context.Background(), b, NewLoRA, o, r); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	model := openModel(t, path)
	lora, err := model.OpenLoRA(filepath.Join(o.OutputDir, "pytorch_lora_weights.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	p, request := drawingAgain(t, b, sample.Model{Pipeline: model, LoRAs: []*diffusers.LoRA{lora}}, o, v)
	got := validated(t, o, 2)
	if want := drawOne(t, p, request); !slices.Equal(got.Pix, want.Pix) {
		t.Error("validation draws another image")
	}
	request.LoRAScales = []float64{0}
	if plain := drawOne(t, p, request); slices.Equal(got.Pix, plain.Pix) {
		t.Error("the LoRA changes nothing")
	}
}

// What validation draws with tokens as they are learned is, at the end, what limner sample draws with their files.
func TestValidationWithTokens(t *testing.T) {
	path, dataset, b := smallXL(t, smallModel(t)), smallDataset(t), parity.Backend(t)
	o, r, log := smallRun(t, path, dataset)
	o.MaxTrainSteps, o.LearningRate = 2, 10
	v := watch.DefaultValidation()
	v.Steps, v.NumImages, v.NumInferenceSteps, v.Prompts = 1, 1, 2, []string{"red <x> and <y>"}
	r.Watch.Validation = v
	if err := do(t, context.Background(), b, newTokens, o, r); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	got := validated(t, o, 2)
	if first := validated(t, o, 1); slices.Equal(got.Pix, first.Pix) {
		t.Error("the tokens changed, the image did not")
	}
	model := openModel(t, path)
	for i := 1; i <= 2; i++ { // the files say which token they are of
		if err := model.AddEmbedding(filepath.Join(o.OutputDir, fmt.Sprintf("learned_embeds-%d.safetensors", i)),
			""); err != nil {
			t.Fatal(err)
		}
	}
	p, request := drawingAgain(t, b, sample.Model{Pipeline: model}, o, v)
	if want := drawOne(t, p, request); !slices.Equal(got.Pix, want.Pix) {
		t.Error("validation draws another image")
	}
	raw, err := os.ReadFile(filepath.Join(o.OutputDir, "diary.html"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "data:image/jpeg;base64,"); n != 2+8 { // of validations and of rows
		t.Errorf("the diary has %d images", n)
	}
}
