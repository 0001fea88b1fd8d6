//go:build interop

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/controlnet"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/vae"
)

// interopCase is something that limner wrote, for testdata/interop.py to load.
type interopCase struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // see load in interop.py
	Path   string `json:"path"`
	Model  string `json:"model,omitempty"` // that the file goes with, or whose configs it has
	Prompt string `json:"prompt"`
	Token  string `json:"token,omitempty"`
	Out    string `json:"out"`
}

const interopTolerance = 1e-4 // of the largest value

// TestPythonLoadsResults trains and converts one of each kind of file, loads them in diffusers, and compares a forward
// pass of each network.
func TestPythonLoadsResults(t *testing.T) {
	python := os.Getenv("LIMNER_PYTHON")
	if python == "" {
		t.Fatal("set LIMNER_PYTHON to a Python that has diffusers, transformers and peft")
	}
	groups := map[string]func(t *testing.T, dir string) []interopCase{
		"trained controlnet sd15": trainedFolder("controlnet", "controlnet", "sd15"),
		"trained controlnet sdxl": trainedFolder("controlnet", "controlnet", "sdxl"),
		"trained model sd15":      trainedFolder("text-to-image", "model", "sd15"),
		"trained vae sd15":        trainedFolder("vae", "vae", "sd15"),
	}
	for _, family := range golden.Families {
		model := golden.Path(t, family+"-tiny")
		groups["converted "+family] = func(t *testing.T, dir string) []interopCase {
			return convertedCases(t, dir, model)
		}
		groups["lora "+family] = func(t *testing.T, dir string) []interopCase { return loraCases(t, dir, model) }
		groups["inversion "+family] = func(t *testing.T, dir string) []interopCase {
			return inversionCases(t, dir, model)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			checkInterop(t, python, dir, groups[name](t, dir))
		})
	}
}

// checkInterop has Python load the cases and compares what it computes.
func checkInterop(t *testing.T, python, dir string, cases []interopCase) {
	for i := range cases {
		cases[i].Out = filepath.Join(dir, fmt.Sprintf("out-%d.safetensors", i))
		if cases[i].Prompt == "" {
			cases[i].Prompt = "a photo of a circle"
		}
	}
	raw, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "cases.json")
	if err := os.WriteFile(list, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "interop.py"), list)
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1", "HF_HOME="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, &stderr)
	}
	var answer struct{ Errors, Versions map[string]string }
	if err := json.Unmarshal(out[bytes.LastIndexByte(bytes.TrimSpace(out), '\n')+1:], &answer); err != nil {
		t.Fatalf("python wrote %q: %v\n%s", out, err, &stderr)
	}
	t.Log(answer.Versions)
	r := interopRunner{programs: map[string]*parity.Program{}}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if text := answer.Errors[c.Name]; text != "" {
				t.Fatal(text)
			}
			r.compare(t, c, parity.OpenFile(t, c.Out))
		})
	}
}

// runLimner is limner with these arguments in dir, which must succeed.
func runLimner(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, stderr, code := limner(t, dir, args...); code != 0 {
		t.Fatalf("limner %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
}

// convertedCases are a model, its ControlNet and its VAE as single files and, from those, as folders.
func convertedCases(t *testing.T, dir, model string) []interopCase {
	p, err := diffusers.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	var cases []interopCase
	for _, kind := range []string{"model", "controlnet", "vae"} {
		from := model
		if kind != "model" {
			from = filepath.Join(model, kind)
		}
		file, folder := filepath.Join(dir, kind+".safetensors"), filepath.Join(dir, kind)
		runLimner(t, dir, "convert", from, file, "--to", "single-file")
		runLimner(t, dir, "convert", file, folder, "--to", "diffusers", "--config", from)
		cases = append(cases, interopCase{Name: kind + " folder", Kind: kind, Path: folder})
		// diffusers does not take the label_emb of SDXL's ControlNets out of a single file.
		if !p.XL() || kind != "controlnet" {
			cases = append(cases, interopCase{Name: kind + " file", Kind: kind + "_file", Path: file, Model: from})
		}
	}
	return cases
}

// trainedFolder is the folder that a short training leaves.
func trainedFolder(recipe, kind, family string) func(t *testing.T, dir string) []interopCase {
	return func(t *testing.T, dir string) []interopCase {
		folder := trainBriefly(t, dir, recipe, golden.Path(t, family+"-tiny"))
		return []interopCase{{Name: "folder", Kind: kind, Path: folder}}
	}
}

// trainBriefly makes one large step and returns the folder of the result.
func trainBriefly(t *testing.T, dir, recipe, model string, more ...string) string {
	out := recipe + "-" + filepath.Base(model)
	args := []string{
		"train", recipe, "--model", model, "--output_dir", out,
		"--train_data_dir", golden.Path(t, "parquet", "train-00000-of-00001.parquet"),
		"--max_train_steps", "1", "--train_batch_size", "1", "--resolution", "64", "--learning_rate", "0.02",
	}
	runLimner(t, dir, append(args, more...)...)
	return filepath.Join(dir, out)
}

// loraCases are a LoRA with matrices of the text encoders in all namings, with an alpha that is not the rank.
func loraCases(t *testing.T, dir, model string) []interopCase {
	folder := trainBriefly(t, dir, "lora", model, "--rank", "4", "--lora_alpha", "8",
		"--train_text_encoder", "--train_conv", "--lora_format", "both")
	kohya := filepath.Join(folder, "pytorch_lora_weights_kohya.safetensors")
	files := map[string]string{
		"trained": filepath.Join(folder, "pytorch_lora_weights.safetensors"), "trained kohya": kohya,
	}
	for _, naming := range []string{"lora-diffusers", "lora-peft", "lora-kohya"} {
		files[naming] = filepath.Join(dir, naming+".safetensors")
		runLimner(t, dir, "convert", kohya, files[naming], "--to", naming)
	}
	var cases []interopCase
	for _, naming := range slices.Sorted(maps.Keys(files)) {
		cases = append(cases, interopCase{Name: naming, Kind: "lora", Path: files[naming], Model: model})
	}
	return cases
}

// inversionCases are the embeddings of a new token of several vectors.
func inversionCases(t *testing.T, dir, model string) []interopCase {
	folder := trainBriefly(t, dir, "textual-inversion", model,
		"--placeholder_token", "<disc>", "--initializer_token", "a", "--num_vectors", "2")
	return []interopCase{{
		Name: "learned", Kind: "inversion", Path: filepath.Join(folder, "learned_embeds.safetensors"), Model: model,
		Prompt: "a photo of a <disc>", Token: "<disc>",
	}}
}

// interopRunner runs networks as they are read from a case's files. Each structure is compiled once.
type interopRunner struct {
	programs map[string]*parity.Program
}

func (r interopRunner) run(t *testing.T, m parity.Model, in []parity.Tensor, name string,
	build func(p nn.Params, in []*Node, out map[string]*Node)) parity.Results {
	key := fmt.Sprintln(name, m.Tree)
	if r.programs[key] == nil {
		r.programs[key] = parity.Compile(t, parity.Backend(t), m.Tree, in, build)
	}
	return r.programs[key].Run(m.Values, in...)
}

func (r interopRunner) compare(t *testing.T, c interopCase, f parity.File) {
	folder, open := c.Path, checkpoint.OpenModel
	if strings.HasSuffix(c.Kind, "_file") {
		folder, open = c.Model, checkpoint.OpenModelFile
	}
	load := func(tree nn.Tree) nn.Values {
		m, err := open(c.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		values, err := m.Load(tree)
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	switch c.Kind {
	case "controlnet", "controlnet_file":
		config, err := diffusers.ReadControlNet(folder, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.compareControlNet(t, config, load(config.Tree()), f)
	case "vae", "vae_file":
		raw, err := os.ReadFile(filepath.Join(folder, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		config, err := vae.ParseConfig(raw)
		if err != nil {
			t.Fatal(err)
		}
		r.compareVAE(t, config, load(config.Tree()), f)
	default:
		r.comparePipeline(t, c, f)
	}
}

// comparePipeline compares the networks of a whole model, with the LoRA or the textual inversion of the case.
func (r interopRunner) comparePipeline(t *testing.T, c interopCase, f parity.File) {
	path, options := c.Path, diffusers.Options{}
	switch c.Kind {
	case "model_file":
		options.Config = c.Model
	case "lora", "inversion":
		path = c.Model
	}
	p, err := diffusers.OpenWith(path, options)
	if err == nil && c.Kind == "inversion" {
		err = p.AddEmbedding(c.Path, c.Token)
	}
	if err != nil {
		t.Fatal(err)
	}
	values, err := p.Load(p.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	unet := f.Image("unet")
	if c.Kind == "lora" {
		lora, err := checkpoint.OpenLoRA(c.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer lora.Close()
		for _, component := range lora.Components() {
			if err := lora.Fuse(component, p.Tree(component), values.Within(component), 1); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"unet", "text"} {
			if change := difference(f.Get(name), f.Get("base."+name)); change < 100*interopTolerance {
				t.Errorf("the LoRA changes %s by %g in Python, too little to tell", name, change)
			}
		}
	}
	for _, side := range []struct{ component, suffix string }{
		{diffusers.TextEncoder, ""}, {diffusers.TextEncoder2, "_2"},
	} {
		if !slices.Contains(p.Components(), side.component) {
			continue
		}
		config, tokenizer := p.Text, p.Tokenizer
		if side.component == diffusers.TextEncoder2 {
			config, tokenizer = *p.Text2, p.Tokenizer2
		}
		ids := f.Get("ids" + side.suffix)
		ours, _ := tokenizer.EncodePadded(c.Prompt)
		for i, id := range ours {
			if int32(ids.Data[i]) != id {
				t.Fatalf("%q: ids %v, Python's %v", c.Prompt, ours, ids.Data)
			}
		}
		m := parity.Model{Tree: config.Tree(), Values: values.Within(side.component)}
		got := r.run(t, m, []parity.Tensor{ids}, side.component, func(p nn.Params, in []*Node, out map[string]*Node) {
			out["text"] = config.Forward(p, ConvertDType(in[0], dtypes.Int32), dtypes.Float32).LastHiddenState
		})
		parity.Check(t, side.component, got["text"], f.Get("text"+side.suffix), interopTolerance)
	}
	m := parity.Model{Tree: p.UNet.Tree(), Values: values.Within(diffusers.UNet)}
	got := r.run(t, m, f.UNetInputs("unet."), "unet", func(params nn.Params, in []*Node, out map[string]*Node) {
		sample, timesteps, context := parity.UNetNodes(in)
		out["unet"] = p.UNet.Forward(params, sample, timesteps, context, nil)
	})
	parity.Check(t, "unet", got["unet"], unet, interopTolerance)
	r.compareVAE(t, p.VAE, values.Within(diffusers.VAE), f)
}

func (r interopRunner) compareVAE(t *testing.T, config vae.Config, values nn.Values, f parity.File) {
	m := parity.Model{Tree: config.Tree(), Values: values}
	in := []parity.Tensor{f.Image("vae.latents"), f.Image("vae.image")}
	got := r.run(t, m, in, "vae", func(p nn.Params, in []*Node, out map[string]*Node) {
		out["vae.decoded"] = config.Decode(p, in[0])
		out["vae.mean"], _ = config.Encode(p, in[1])
	})
	for name, x := range got {
		parity.Check(t, name, x, f.Image(name), interopTolerance)
	}
}

func (r interopRunner) compareControlNet(t *testing.T, config controlnet.Config, values nn.Values, f parity.File) {
	m := parity.Model{Tree: config.Tree(), Values: values}
	in := append([]parity.Tensor{f.Image("controlnet.image")}, f.UNetInputs("controlnet.")...)
	got := r.run(t, m, in, "controlnet", func(p nn.Params, in []*Node, out map[string]*Node) {
		sample, timesteps, context := parity.UNetNodes(in[1:])
		residuals := config.Forward(p, sample, timesteps, context, in[0])
		out["controlnet.mid"] = residuals.Mid
		for i, x := range residuals.Down {
			out[fmt.Sprintf("controlnet.down%d", i)] = x
		}
	})
	for name, x := range got {
		parity.Check(t, name, x, f.Image(name), interopTolerance)
	}
}

// difference is the largest of two tensors, as a share of the largest value.
func difference(a, b parity.Tensor) float64 {
	var most, largest float64
	for i, v := range b.Data {
		most = max(most, math.Abs(float64(v-a.Data[i])))
		largest = max(largest, math.Abs(float64(v)))
	}
	return most / largest
}
