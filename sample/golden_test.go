package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"limner/data"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/noise"
	"limner/xla"
)

// run is an entry of pipelines/index.json.
type run struct {
	Pipeline  string          `json:"pipeline"`
	Scheduler string          `json:"scheduler"`
	Config    json.RawMessage `json:"scheduler_config"`
	Timesteps []float64       `json:"timesteps"`
	Args      struct {
		Prompt          oneOrMany `json:"prompt"`
		NegativePrompt  oneOrMany `json:"negative_prompt"`
		Steps           int       `json:"num_inference_steps"`
		Guidance        float64   `json:"guidance_scale"`
		Conditioning    *float64  `json:"controlnet_conditioning_scale"`
		ImagesPerPrompt int       `json:"num_images_per_prompt"`
		Height          int       `json:"height"`
		Width           int       `json:"width"`
	} `json:"args"`
}

type oneOrMany []string

func (s *oneOrMany) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		if string(raw) != "null" {
			*s = oneOrMany{one}
		}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(s))
}

// pythonNumbers are what Python writes for infinity and NaN, which is no JSON.
var pythonNumbers = regexp.MustCompile(`(:)\s*(-?Infinity|NaN)\b`)

// goldenRuns lists the runs that this package can do: DDIM without extensions, of a Stable Diffusion 1.5 pipeline.
func goldenRuns(t *testing.T) map[string]run {
	t.Helper()
	var index struct {
		Runs map[string]json.RawMessage `json:"runs"`
	}
	raw, err := os.ReadFile(golden.Path(t, "pipelines", "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	raw = pythonNumbers.ReplaceAll(raw, []byte("$1 null"))
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	known := []string{"prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "controlnet_conditioning_scale",
		"num_images_per_prompt", "height", "width"}
	runs := map[string]run{}
	for name, raw := range index.Runs {
		var r run
		var args struct {
			Args map[string]any `json:"args"`
		}
		for _, v := range []any{&r, &args} {
			if err := json.Unmarshal(raw, v); err != nil {
				t.Fatalf("run %s: %v", name, err)
			}
		}
		extra := slices.ContainsFunc(slices.Collect(maps.Keys(args.Args)), func(key string) bool { return !slices.Contains(known, key) })
		sd15 := strings.HasPrefix(name, "txt2img_") && r.Pipeline == "StableDiffusionPipeline" ||
			strings.HasPrefix(name, "controlnet_") && r.Pipeline == "StableDiffusionControlNetPipeline"
		if r.Scheduler == "DDIMScheduler" && sd15 && !extra {
			runs[name] = r
		}
	}
	for _, name := range []string{"txt2img_ddim", "controlnet_ddim"} {
		if _, ok := runs[name]; !ok {
			t.Fatalf("the goldens have no run %s", name)
		}
	}
	return runs
}

// loadModel reads the model of the goldens, with its ControlNet if that is wanted.
func loadModel(t *testing.T, withControlNet bool) Model {
	t.Helper()
	pipeline, err := diffusers.Open(golden.Path(t, "sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	m := Model{Pipeline: pipeline}
	if m.Values, err = pipeline.Load(diffusers.UNet, diffusers.VAE, diffusers.TextEncoder); err != nil {
		t.Fatal(err)
	}
	if withControlNet {
		config, values, err := diffusers.OpenControlNet(golden.Path(t, "sd15-tiny", "controlnet"))
		if err != nil {
			t.Fatal(err)
		}
		m.ControlNet, m.Values = &config, nn.Merge(m.Values, values)
	}
	return m
}

func condition(t *testing.T) *data.RGB {
	t.Helper()
	raw, err := os.ReadFile(golden.Path(t, "pipelines", "cond.png"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := data.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestGoldenPipelines(t *testing.T) {
	runs := goldenRuns(t)
	for _, family := range []string{"txt2img", "controlnet"} {
		g := parity.Open(t, "pipelines", family+".safetensors")
		control := family == "controlnet"
		latents := g.Image("latents_in")
		for name, r := range runs {
			if !strings.HasPrefix(name, family) {
				continue
			}
			config, err := noise.ParseConfig(r.Config)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			p := pipelineFor(t, control, config, latents.Shape)
			t.Run(name, func(t *testing.T) { checkRun(t, p, g, name, r, latents) })
		}
	}
}

// variant is what a pipeline of the tests is compiled for.
type variant struct {
	control              bool
	noise                noise.Config
	batch, height, width int
}

// pipelines are shared by the tests of this package, since compiling one takes seconds.
var pipelines = map[variant]*Pipeline{}

// pipelineFor returns a pipeline for latents of the given shape [batch, height/8, width/8, channels].
func pipelineFor(t *testing.T, control bool, config noise.Config, latents []int) *Pipeline {
	t.Helper()
	key := variant{control, config, latents[0], latents[1], latents[2]}
	if p := pipelines[key]; p != nil {
		return p
	}
	m := loadModel(t, control)
	m.Pipeline.Noise = config
	scale := m.Pipeline.VAE.Scale()
	shape := Shape{Batch: latents[0], Height: latents[1] * scale, Width: latents[2] * scale, Guidance: true}
	p, err := New(context.Background(), parity.Backend(t), m, shape)
	if err != nil {
		t.Fatal(err)
	}
	pipelines[key] = p
	return p
}

// goldenPipeline is the pipeline of the plain DDIM run, with or without the ControlNet.
func goldenPipeline(t *testing.T, control bool) *Pipeline {
	t.Helper()
	config, err := noise.ParseConfig(goldenRuns(t)["txt2img_ddim"].Config)
	if err != nil {
		t.Fatal(err)
	}
	return pipelineFor(t, control, config, parity.Open(t, "pipelines", "txt2img.safetensors").Image("latents_in").Shape)
}

func checkRun(t *testing.T, p *Pipeline, g parity.File, name string, r run, latents parity.Tensor) {
	steps, err := p.sampler.Steps(r.Args.Steps)
	if err != nil {
		t.Fatal(err)
	}
	var timesteps []float64
	for _, s := range steps {
		timesteps = append(timesteps, float64(s.Timestep))
	}
	if !slices.Equal(timesteps, r.Timesteps) {
		t.Fatalf("timesteps: got %v, want %v", timesteps, r.Timesteps)
	}

	request := DefaultRequest()
	request.NumInferenceSteps, request.GuidanceScale = r.Args.Steps, r.Args.Guidance
	if r.Args.Conditioning != nil {
		request.ControlNetConditioningScale = *r.Args.Conditioning
	}
	for _, prompt := range r.Args.Prompt {
		for range max(1, r.Args.ImagesPerPrompt) {
			request.Prompts = append(request.Prompts, prompt)
		}
	}
	request.NegativePrompts, request.Latents = r.Args.NegativePrompt, latents.Data
	if p.model.ControlNet != nil {
		request.Conditions = data.AppendCondition(nil, condition(t))
	}
	request.OnStep = func(step, total int, read func() ([]float32, error)) {
		x, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if total != len(steps) {
			t.Errorf("step %d of %d, want of %d", step, total, len(steps))
		}
		tolerance := 1e-4
		if step == total {
			tolerance = 2e-4
		}
		key := fmt.Sprintf("%s.step.%d", name, step-1)
		parity.Check(t, key, parity.Tensor{Data: x, Shape: latents.Shape}, g.Image(key), tolerance)
	}
	result, err := p.Sample(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	parity.Check(t, name+".latents_out", parity.Tensor{Data: result.Latents, Shape: latents.Shape}, g.Image(name+".latents_out"), 2e-4)
	checkImage(t, p, g, name, result)
}

// checkImage compares the first image of a run, as numbers and as bytes, where the goldens hold it.
func checkImage(t *testing.T, p *Pipeline, g parity.File, name string, result *Result) {
	t.Helper()
	if !g.Has(name + ".image") {
		return
	}
	want := g.Get(name + ".image")
	a, err := xla.Put(p.backend, result.Latents, xla.Batch, p.latents().Shape.Dimensions...)
	if err != nil {
		t.Fatal(err)
	}
	r := &round{Pipeline: p, count: 1}
	pixels, err := r.decode(a)
	if err != nil {
		t.Fatal(err)
	}
	var worst, worstLevel float64
	for i, w := range want.Data {
		worst = max(worst, math.Abs(float64(pixels[i]-w)))
		level := math.RoundToEven(float64(w * 255))
		worstLevel = max(worstLevel, math.Abs(float64(result.Images[0].Pix[i])-level))
	}
	if !(worst <= 1e-3) || worstLevel > 1 {
		t.Errorf("%s.image: error %g, at most 1e-3; as bytes %g levels, at most 1", name, worst, worstLevel)
	}
	if err := a.Free(); err != nil {
		t.Error(err)
	}
}

func TestGoldenPromptEmbeddings(t *testing.T) {
	g := parity.Open(t, "pipelines", "txt2img.safetensors")
	r := goldenRuns(t)["txt2img_ddim"]
	p := goldenPipeline(t, false)
	programs, err := p.programsFor(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	round := &round{Pipeline: p, programs: programs, count: len(r.Args.Prompt), request: Request{
		Prompts: r.Args.Prompt, NegativePrompts: r.Args.NegativePrompt, GuidanceScale: r.Args.Guidance,
	}}
	text, err := round.encode()
	if err != nil {
		t.Fatal(err)
	}
	x, err := xla.Get[float32](text)
	if err != nil {
		t.Fatal(err)
	}
	size := len(x) / (2 * len(r.Args.Prompt))
	for half, key := range []string{"negative_prompt_embeds", "prompt_embeds"} {
		want := g.Get(key)
		got := parity.Tensor{Shape: want.Shape}
		for i := range r.Args.Prompt {
			got.Data = append(got.Data, x[(2*i+half)*size:(2*i+half+1)*size]...)
		}
		parity.Check(t, key, got, want, 1e-5)
	}
}
