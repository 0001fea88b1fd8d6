package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/clip"
	"limner/models/diffusers"
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
		ClipSkip        int       `json:"clip_skip"`
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

// indexRuns lists all runs of the goldens.
func indexRuns(t *testing.T) map[string]run {
	t.Helper()
	runs := map[string]run{}
	for name, raw := range rawRuns(t) {
		var r run
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatalf("run %s: %v", name, err)
		}
		runs[name] = r
	}
	return runs
}

func rawRuns(t *testing.T) map[string]json.RawMessage {
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
	return index.Runs
}

// goldenRuns lists the runs that this package can do: DDIM without extensions, of a text-to-image pipeline.
func goldenRuns(t *testing.T) map[string]run {
	t.Helper()
	known := []string{"prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "controlnet_conditioning_scale",
		"num_images_per_prompt", "height", "width", "clip_skip"}
	runs := map[string]run{}
	all := indexRuns(t)
	for name, raw := range rawRuns(t) {
		r := all[name]
		var args struct {
			Args map[string]any `json:"args"`
		}
		if err := json.Unmarshal(raw, &args); err != nil {
			t.Fatalf("run %s: %v", name, err)
		}
		extra := slices.ContainsFunc(slices.Collect(maps.Keys(args.Args)), func(key string) bool { return !slices.Contains(known, key) })
		ours := strings.HasPrefix(name, "txt2img_") || strings.HasPrefix(name, "controlnet_") || strings.HasPrefix(name, "sd21_")
		if r.Scheduler == "DDIMScheduler" && ours && !extra {
			runs[name] = r
		}
	}
	for _, name := range []string{"txt2img_ddim", "controlnet_ddim", "sd21_ddim"} {
		if _, ok := runs[name]; !ok {
			t.Fatalf("the goldens have no run %s", name)
		}
	}
	return runs
}

// loadModel opens a model of the goldens, with its ControlNet if that is wanted.
func loadModel(t *testing.T, family string, withControlNet bool) Model {
	t.Helper()
	pipeline, err := diffusers.Open(golden.Path(t, family+"-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	weights, err := pipeline.Weights(pipeline.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { weights.Close() })
	m := Model{Pipeline: pipeline, Weights: weights}
	if withControlNet {
		dir := golden.Path(t, family+"-tiny", "controlnet")
		config, err := diffusers.ReadControlNet(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := weights.Open(diffusers.ControlNet, dir, config.Tree()); err != nil {
			t.Fatal(err)
		}
		m.ControlNet = &config
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
	for _, kind := range []string{"txt2img", "controlnet", "sd21"} {
		g := parity.Open(t, "pipelines", kind+".safetensors")
		family, control := "sd15", kind == "controlnet"
		if kind == "sd21" {
			family = kind
		}
		latents := g.Image("latents_in")
		for name, r := range runs {
			if !strings.HasPrefix(name, kind+"_") {
				continue
			}
			config, err := noise.ParseConfig(r.Config)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			p := pipelineFor(t, family, control, config, latents.Shape)
			t.Run(name, func(t *testing.T) { checkRun(t, p, g, name, r, latents) })
		}
	}
}

// variant is what a pipeline of the tests is compiled for.
type variant struct {
	family               string
	control              bool
	noise                noise.Config
	batch, height, width int
}

// pipelines are shared by the tests of this package, since compiling one takes seconds.
var pipelines = map[variant]*Pipeline{}

// pipelineFor returns a pipeline for latents of the given shape [batch, height/8, width/8, channels].
func pipelineFor(t *testing.T, family string, control bool, config noise.Config, latents []int) *Pipeline {
	t.Helper()
	key := variant{family, control, config, latents[0], latents[1], latents[2]}
	if p := pipelines[key]; p != nil {
		return p
	}
	m := loadModel(t, family, control)
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
	return pipelineFor(t, "sd15", control, config, parity.Open(t, "pipelines", "txt2img.safetensors").Image("latents_in").Shape)
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
	request.NegativePrompts, request.Latents, request.ClipSkip = r.Args.NegativePrompt, latents.Data, r.Args.ClipSkip
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
	for kind, run := range map[string]string{"txt2img": "txt2img_ddim", "sdxl": "sdxl_euler"} {
		t.Run(kind, func(t *testing.T) {
			g := parity.Open(t, "pipelines", kind+".safetensors")
			p := goldenPipeline(t, false)
			if kind == "sdxl" {
				p = textOnly(t, kind)
			}
			r := indexRuns(t)[run]
			texts, err := p.encode(context.Background(), Request{
				Prompts: r.Args.Prompt, NegativePrompts: r.Args.NegativePrompt, GuidanceScale: r.Args.Guidance, PromptStyle: clip.Plain,
			})
			if err != nil {
				t.Fatal(err)
			}
			for prefix, embeddings := range map[string][]embedding{"": texts.prompt, "negative_": texts.negative} {
				var text, pooled []float32
				for _, e := range embeddings {
					text, pooled = append(text, e.text...), append(pooled, e.pooled...)
				}
				want := g.Get(prefix + "prompt_embeds")
				parity.Check(t, prefix+"prompt_embeds", parity.Tensor{Data: text, Shape: want.Shape}, want, 1e-5)
				if key := prefix + "pooled_prompt_embeds"; kind == "sdxl" {
					want := g.Get(key)
					parity.Check(t, key, parity.Tensor{Data: pooled, Shape: want.Shape}, want, 1e-5)
				}
			}
		})
	}
}

// textOnly is a pipeline of which only the text encoders are compiled.
func textOnly(t *testing.T, family string) *Pipeline {
	t.Helper()
	m := loadModel(t, family, false)
	m.Log, m.Compute = io.Discard, dtypes.Float32
	p := &Pipeline{
		backend: parity.Backend(t), model: m, shape: Shape{Batch: 2, Height: 64, Width: 64}, trees: m.trees(),
		params: map[string]*xla.Array{}, texts: map[int]*xla.Program{},
	}
	if err := m.Weights.Stream(p.trees.text, "F32", p.put); err != nil {
		t.Fatal(err)
	}
	return p
}
