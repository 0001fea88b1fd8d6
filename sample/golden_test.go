package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"limner/controlnet"
	"limner/data/imaging"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/noise"
	"limner/xla"
	"limner/xla/cpu"
)

// run is an entry of pipelines/index.json.
type run struct {
	Pipeline  string          `json:"pipeline"`
	Scheduler string          `json:"scheduler"`
	Config    json.RawMessage `json:"scheduler_config"`
	Timesteps []float64       `json:"timesteps"`
	Args      struct {
		Prompt          oneOrMany    `json:"prompt"`
		NegativePrompt  oneOrMany    `json:"negative_prompt"`
		Steps           int          `json:"num_inference_steps"`
		Guidance        float64      `json:"guidance_scale"`
		Rescale         float64      `json:"guidance_rescale"`
		Eta             float64      `json:"eta"`
		Strength        *float64     `json:"strength"`
		Conditioning    numberOrMany `json:"controlnet_conditioning_scale"`
		Start           numberOrMany `json:"control_guidance_start"`
		End             numberOrMany `json:"control_guidance_end"`
		GuessMode       bool         `json:"guess_mode"`
		ImagesPerPrompt int          `json:"num_images_per_prompt"`
		ClipSkip        int          `json:"clip_skip"`
		Height          int          `json:"height"`
		Width           int          `json:"width"`
		OriginalSize    *[2]int      `json:"original_size"`
		CropsTopLeft    *[2]int      `json:"crops_coords_top_left"`
		TargetSize      *[2]int      `json:"target_size"`
	} `json:"args"`
}

type numberOrMany []float64

func (s *numberOrMany) UnmarshalJSON(raw []byte) error {
	var one float64
	if json.Unmarshal(raw, &one) == nil {
		*s = numberOrMany{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]float64)(s))
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

// indexRuns lists all runs of the goldens.
func indexRuns(t testing.TB) map[string]run {
	t.Helper()
	var index struct {
		Runs map[string]run `json:"runs"`
	}
	golden.ReadJSON(t, &index, "pipelines", "index.json")
	return index.Runs
}

// loadModel opens a model of the goldens, with its ControlNet if that is wanted.
func loadModel(t testing.TB, family string, withControlNet bool) Model {
	t.Helper()
	pipeline, err := diffusers.Open(golden.Path(t, family+"-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	weights, err := pipeline.Weights(pipeline.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	// The weights stay open: the pipelines that are shared read some of them later.
	m := Model{Pipeline: pipeline, Weights: weights}
	if withControlNet {
		dir := golden.Path(t, family+"-tiny", "controlnet")
		config, err := diffusers.ReadControlNet(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := weights.Open(diffusers.ControlNet, dir, config.Tree()); err != nil {
			t.Fatal(err)
		}
		m.ControlNets = []controlnet.Config{config}
	}
	return m
}

// inpaintingModel is sd15-tiny with the wider first convolution of a model for inpainting.
func inpaintingModel(t testing.TB) Model {
	t.Helper()
	m := loadModel(t, "sd15", false)
	pipeline := *m.Pipeline
	values, err := pipeline.Load(pipeline.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	// [out, in, 3, 3]
	wide := parity.Open(t, "sd15-tiny-extra", "unet_inpaint9_conv_in.safetensors").Get("conv_in.weight")
	const taps = 3 * 3
	out, in := wide.Shape[0], wide.Shape[1]
	kernel := make([]float32, taps*in*out) // [3, 3, in, out]
	for o := range out {
		for i := range in {
			for k := range taps {
				kernel[(k*in+i)*out+o] = wide.Data[(o*in+i)*taps+k]
			}
		}
	}
	pipeline.UNet.InChannels = in
	values[diffusers.UNet+".conv_in.weight"] = kernel
	m.Pipeline, m.Weights = &pipeline, checkpoint.InMemory(values)
	return m
}

func picture(t testing.TB, name string) *imaging.RGB {
	t.Helper()
	raw, err := os.ReadFile(golden.Path(t, "pipelines", name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := imaging.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func condition(t testing.TB) *imaging.RGB { return picture(t, "cond.png") }

// TestGoldenPipelines follows every run of the goldens.
func TestGoldenPipelines(t *testing.T) {
	runs := indexRuns(t)
	for _, name := range slices.Sorted(maps.Keys(runs)) {
		r := runs[name]
		kind, _, _ := strings.Cut(name, "_")
		file := strings.TrimSuffix(kind, "9")
		g := parity.Open(t, "pipelines", file+".safetensors")
		t.Run(name, func(t *testing.T) {
			v := variant{
				family: "sd15", control: strings.Contains(r.Pipeline, "ControlNet"), inpaints: kind == "inpaint9",
				latents: [3]int(g.Image(name + ".latents_out").Shape),
			}
			if kind == "sd21" || kind == "sdxl" {
				v.family = kind
			}
			config, err := noise.ParseConfig(r.Config)
			if err != nil {
				t.Fatal(err)
			}
			checkRun(t, pipelineFor(t, v, config), g, name, r)
		})
	}
	for _, name := range []string{
		"txt2img_ddim", "controlnet_ddim", "sd21_ddim", "sdxl_euler", "img2img_ddim",
		"inpaint_ddim_s1.0", "inpaint9_ddim_s1.0",
	} {
		if _, ok := runs[name]; !ok {
			t.Errorf("the goldens have no run %s", name)
		}
	}
}

// The smallest run gives the golden image also where XLA computes all layers by itself.
func TestGoldenPipelineWithoutCPUKernels(t *testing.T) {
	runs := indexRuns(t)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(runs)), func(name string) bool {
		return !strings.HasPrefix(name, "txt2img_")
	})
	if len(names) == 0 {
		t.Fatal("no run of txt2img in pipelines/index.json")
	}
	name := names[0]
	r := runs[name]
	config, err := noise.ParseConfig(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	g := parity.Open(t, "pipelines", "txt2img.safetensors")
	shape := g.Image(name + ".latents_out").Shape
	checkRun(t, pipelineFor(t, variant{family: "sd15", xlaOnly: true, latents: [3]int(shape)}, config), g, name, r)
}

// variant is what a pipeline of the tests is compiled for.
type variant struct {
	family            string
	control, inpaints bool
	xlaOnly           bool   // without the CPU kernels
	latents           [3]int // batch, height/8, width/8
}

// pipelines are shared by the tests of this package, since compiling one takes seconds.
var pipelines = map[variant]*Pipeline{}

func pipelineFor(t testing.TB, v variant, config noise.Config) *Pipeline {
	t.Helper()
	p := pipelines[v]
	if p == nil {
		m := loadModel(t, v.family, v.control)
		if v.inpaints {
			m = inpaintingModel(t)
		}
		scale := m.Pipeline.VAE.Scale()
		var err error
		shape := Shape{Batch: v.latents[0], Height: v.latents[1] * scale, Width: v.latents[2] * scale}
		b := parity.Backend(t)
		if v.xlaOnly {
			t.Setenv(cpu.Switch, "off")
			if b, err = xla.Open(context.Background(), parity.Options(1)); err != nil {
				t.Fatal(err)
			}
		}
		if p, err = New(context.Background(), b, m, shape, DefaultRequest()); err != nil {
			t.Fatal(err)
		}
		pipelines[v] = p
	}
	p.model.Pipeline.Noise = config
	p.model.Pipeline.Noise.ClassName = noise.DDIM
	return p
}

// goldenPipeline is the pipeline of the plain DDIM run, with or without the ControlNet.
func goldenPipeline(t testing.TB, control bool) *Pipeline {
	t.Helper()
	config, err := noise.ParseConfig(indexRuns(t)["txt2img_ddim"].Config)
	if err != nil {
		t.Fatal(err)
	}
	shape := parity.Open(t, "pipelines", "txt2img.safetensors").Image("latents_in").Shape
	return pipelineFor(t, variant{family: "sd15", control: control, latents: [3]int(shape)}, config)
}

// sdxlPipeline is the pipeline of the plain SDXL run.
func sdxlPipeline(t testing.TB) *Pipeline {
	t.Helper()
	config, err := noise.ParseConfig(indexRuns(t)["sdxl_euler"].Config)
	if err != nil {
		t.Fatal(err)
	}
	shape := parity.Open(t, "pipelines", "sdxl.safetensors").Image("latents_in").Shape
	return pipelineFor(t, variant{family: "sdxl", latents: [3]int(shape)}, config)
}

// goldenRequest asks for a run of the goldens.
func goldenRequest(t testing.TB, p *Pipeline, g parity.File, name string, r run) Request {
	t.Helper()
	request, a := DefaultRequest(), r.Args
	request.Scheduler, request.NumInferenceSteps, request.Eta = r.Scheduler, a.Steps, a.Eta
	request.GuidanceScale, request.GuidanceRescale, request.ClipSkip = a.Guidance, a.Rescale, a.ClipSkip
	request.NegativePrompts = a.NegativePrompt
	request.ControlNetConditioningScale, request.GuessMode = a.Conditioning, a.GuessMode
	request.ControlGuidanceStart, request.ControlGuidanceEnd = a.Start, a.End
	for _, prompt := range a.Prompt {
		for range max(1, a.ImagesPerPrompt) {
			request.Prompts = append(request.Prompts, prompt)
		}
	}
	if p.model.ControlNets != nil {
		request.Conditions = [][]float32{imaging.AppendCondition(nil, condition(t))}
	}
	// The tensors of the goldens stand in the order in which diffusers draws them.
	var order []uint64
	if a.Strength == nil {
		request.Latents = g.Image("latents_in").Data
	} else {
		request.Strength = *a.Strength
		request.Images = imaging.AppendPixels(nil, picture(t, "init.png"))
		masked := strings.Contains(r.Pipeline, "Inpaint")
		if !(masked && p.model.inpaints() && request.Strength == 1) {
			order = append(order, purposePosterior)
		}
		order = append(order, purposeLatents)
		if masked {
			mask := picture(t, "mask.png")
			for i := 0; i < len(mask.Pix); i += 3 {
				request.Masks = append(request.Masks, float32(mask.Pix[i])/255)
			}
			order = append(order, purposeMaskedPosterior)
		}
	}
	request.draws = func(image int, purpose uint64, size int) []float32 {
		k := slices.Index(order, purpose)
		if purpose >= purposeSteps {
			k = len(order) + int(purpose-purposeSteps)
		}
		return g.Image(fmt.Sprintf("%s.noise.%d", name, k)).Data[image*size : (image+1)*size]
	}
	for from, to := range map[*[2]int]*[2]int{
		a.OriginalSize: &request.OriginalSize, a.CropsTopLeft: &request.CropsCoordsTopLeft,
		a.TargetSize: &request.TargetSize,
	} {
		if from != nil {
			*to = *from
		}
	}
	return request
}

func checkRun(t *testing.T, p *Pipeline, g parity.File, name string, r run) {
	request := goldenRequest(t, p, g, name, r)
	sched, err := p.schedule(request)
	if err != nil {
		t.Fatal(err)
	}
	var timesteps []float64
	for _, c := range sched.Calls {
		timesteps = append(timesteps, c.Timestep)
	}
	if !slices.Equal(timesteps, r.Timesteps) {
		t.Fatalf("timesteps: got %v, want %v", timesteps, r.Timesteps)
	}
	shape := g.Image(name + ".latents_out").Shape
	request.OnStep = func(step, total int, read func() ([]float32, error)) {
		x, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if total != len(timesteps) {
			t.Errorf("step %d of %d, want of %d", step, total, len(timesteps))
		}
		tolerance := 1e-4
		if 2*step > total {
			tolerance = 2e-4
		}
		key := fmt.Sprintf("%s.step.%d", name, step-1)
		parity.Check(t, key, parity.Tensor{Data: x, Shape: shape}, g.Image(key), tolerance)
	}
	result, err := p.Sample(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	parity.Check(t, name+".latents_out", parity.Tensor{Data: result.Latents, Shape: shape},
		g.Image(name+".latents_out"), 2e-4)
	checkImage(t, p, g, name, result)
}

// checkImage compares the first image of a run, as numbers and as bytes, where the goldens hold it.
func checkImage(t *testing.T, p *Pipeline, g parity.File, name string, result *Result) {
	t.Helper()
	if !g.Has(name + ".image") {
		return
	}
	want := g.Get(name + ".image")
	r := &round{p: p, count: 1}
	a, err := r.putLatents(result.Latents)
	if err != nil {
		t.Fatal(err)
	}
	r.arrays = append(r.arrays, a)
	decoded, err := r.decode(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	var pixels []float32
	if err := r.pixels(decoded, func(_ int, values []float32) error { pixels = values; return nil }); err != nil {
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
	if err := r.free(); err != nil {
		t.Error(err)
	}
}

func TestGoldenPromptEmbeddings(t *testing.T) {
	for kind, run := range map[string]string{"txt2img": "txt2img_ddim", "sdxl": "sdxl_euler"} {
		t.Run(kind, func(t *testing.T) {
			g := parity.Open(t, "pipelines", kind+".safetensors")
			p, r := goldenPipeline(t, false), indexRuns(t)[run]
			if kind == "sdxl" {
				p = sdxlPipeline(t)
			}
			texts, err := p.encode(context.Background(), Request{
				Prompts: r.Args.Prompt, NegativePrompts: r.Args.NegativePrompt,
				Denoising: Denoising{GuidanceScale: r.Args.Guidance}, Encoding: Encoding{PromptStyle: clip.Plain},
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
