package train

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/diffusers"
	"limner/models/nn"
)

// goldenLoRA is the loss on the goldens' model with their LoRA.
func goldenLoRA(t *testing.T) (Diffusion, parity.Model) {
	t.Helper()
	d, model := wholeDiffusion(t, "sd15-tiny")
	p, err := diffusers.Open(golden.Path(t, "sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string) *diffusers.LoRA {
		file, err := p.OpenLoRA(golden.Path(t, "train", "lora", name))
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	file, kohya := open("pytorch_lora_weights.safetensors"), open("kohya.safetensors") // only kohya's naming has alpha
	rank := file.Layers[0].DownShape[len(file.Layers[0].DownShape)-1]
	addLoRA(t, &d, &model, file, &LoRA{Rank: rank, Alpha: kohya.Layers[0].Scale * float64(rank), Targets: AttentionTargets})
	return d, model
}

// addLoRA has the loss train a LoRA that begins with a file's matrices.
func addLoRA(t *testing.T, d *Diffusion, model *parity.Model, file *diffusers.LoRA, l *LoRA) {
	t.Helper()
	d.LoRA = l
	tree := l.Tree(model.Tree)
	model.Tree = append(model.Tree, tree...)
	for _, layer := range file.Layers {
		model.Values["lora."+layer.Path+".lora_A.weight"] = layer.Down
		model.Values["lora."+layer.Path+".lora_B.weight"] = layer.Up
	}
	if got, want := 2*len(file.Layers), len(tree); got != want {
		t.Fatalf("the golden has %d matrices, the targets give %d", got, want)
	}
}

// wholeDiffusion is the loss on a model of the goldens with latents as they are, and the parameters that it reads.
func wholeDiffusion(t *testing.T, name string) (Diffusion, parity.Model) {
	t.Helper()
	p, err := diffusers.Open(golden.Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	d := Recipe{Compute: dtypes.Float32, CacheLatents: true}.diffusion("golden", Options{Batch: 2}, p)
	values, err := p.Load(p.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	return d, parity.Model{Tree: d.tree(), Values: values}
}

func TestGoldenLoRASteps(t *testing.T) {
	d, model := goldenLoRA(t)
	g := parity.Open(t, "train", "lora", "golden.safetensors")
	checkSteps(t, d, model, loraPlace, goldenSteps{
		numbers: readNumbers(t, "train", "lora", "golden.json"), tolerance: 5e-4,
		first: named(g, "lora.unet.", "grad."), after: named(g, "lora.unet.", "after3."),
		batch: func(i int) []parity.Tensor {
			prefix := fmt.Sprintf("batch%d.", i)
			return []parity.Tensor{g.Image(prefix + "latents"), g.Image(prefix + "noise"), g.Get(prefix + "timesteps"), g.Get("encoder_hidden_states")}
		},
	})
}

// Dropout leaves out its share, makes up for it, and leaves out others with every key.
func TestDropout(t *testing.T) {
	const n, share = 1 << 14, 0.25
	ones := parity.Tensor{Data: slices.Repeat([]float32{1}, n), Shape: []int{n / 64, 64}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{ones}, func(_ nn.Params, in []*Node, out map[string]*Node) {
		for i, key := range [][]uint32{{1, 2}, {1, 3}, {2, 2}, {1, 2}} {
			out[fmt.Sprint(i)] = dropout(in[0], share, Const(in[0].Graph(), key), nil)
		}
		half := n / 64 / 2
		key, row := Const(in[0].Graph(), []uint32{1, 2}), Const(in[0].Graph(), uint32(half))
		out["rows"] = dropout(Slice(in[0], AxisRange(half)), share, key, row)
	})
	if got, want := got["rows"].Data, got["0"].Data[n/2:]; !slices.Equal(got, want) {
		t.Error("the second half of a step's rows drops others when it comes by itself")
	}
	zeros := func(of ...string) int {
		count := 0
		for i := range n {
			if !slices.ContainsFunc(of, func(name string) bool { return got[name].Data[i] != 0 }) {
				count++
			}
		}
		return count
	}
	for _, name := range []string{"0", "1", "2"} {
		for _, v := range got[name].Data {
			if v != 0 && v != float32(1/(1-share)) {
				t.Fatalf("an element became %g", v)
			}
		}
		if got := float64(zeros(name)) / n; math.Abs(got-share) > 0.02 { // six deviations
			t.Errorf("%.3f were left out, want %g", got, share)
		}
	}
	for _, pair := range [][]string{{"0", "1"}, {"0", "2"}, {"1", "2"}} {
		if got := float64(zeros(pair...)) / n; math.Abs(got-share*share) > 0.012 {
			t.Errorf("keys %v leave out %.4f together, want %g", pair, got, share*share)
		}
	}
	if !slices.Equal(got["0"].Data, got["3"].Data) {
		t.Error("the same key leaves out others")
	}
}

// A LoRA goes on from the file of either naming, and only with the settings that it was trained with.
func TestLoRAGoesOn(t *testing.T) {
	model := openModel(t, smallModel(t))
	r := Recipe{}
	networks := r.diffusion("lora", Options{Batch: 2}, model).tree()
	l := LoRA{Rank: 2, Alpha: 6, Targets: []string{"attn2.to_q", "conv_shortcut", "conv1"}, TextTargets: []string{"q_proj"}}
	values := nn.InitValues(l.Tree(networks), 5)
	for key, data := range values {
		for i := range data {
			data[i] += float32(len(key)*(i+1)) / 100 // zeros too
		}
	}
	dir := t.TempDir()
	if err := l.save(dir, "both", networks, values.Within(loraPlace)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{loraFile, loraKohyaFile} {
		got, err := l.load(model, networks, filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for key, want := range values {
			for i := range want {
				if diff := math.Abs(float64(got[key][i] - want[i])); !(diff <= 1e-6*math.Abs(float64(want[i]))) { // one naming has alpha within B
					t.Fatalf("%s: %s[%d]: got %g, want %g", name, key, i, got[key][i], want[i])
				}
			}
		}
	}
	for want, other := range map[string]LoRA{
		"rank: got 4, the file has 2 for ":                        {Rank: 4, Alpha: 6, Targets: l.Targets, TextTargets: l.TextTargets},
		"layers to train that the file lacks: 4, the first unet.": {Rank: 2, Alpha: 6, Targets: append(l.Targets, "attn2.to_k"), TextTargets: l.TextTargets},
		"layers of the file that are not to be trained: 1, the first text_encoder.text_model.encoder.layers.0.self_attn.q_proj ": {Rank: 2, Alpha: 6, Targets: l.Targets},
	} {
		if _, err := other.load(model, networks, filepath.Join(dir, loraFile)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
