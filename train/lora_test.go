package train

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/train/loss"
)

// goldenLoRA is the loss on the goldens' model with their LoRA.
func goldenLoRA(t *testing.T) (loss.Diffusion, parity.Model) {
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
	addLoRA(t, &d, &model, file, &loss.LoRA{
		Rank: rank, Alpha: kohya.Layers[0].Scale * float64(rank), Targets: loss.AttentionTargets,
	})
	return d, model
}

// addLoRA has the loss train a LoRA that begins with a file's matrices.
func addLoRA(t *testing.T, d *loss.Diffusion, model *parity.Model, file *diffusers.LoRA, l *loss.LoRA) {
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
func wholeDiffusion(t *testing.T, name string) (loss.Diffusion, parity.Model) {
	t.Helper()
	p, err := diffusers.Open(golden.Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	d := Recipe{Compute: dtypes.Float32, Diffusion: Diffusion{CacheLatents: true}}.diffusion("golden",
		Options{Batch: 2}, p)
	values, err := p.Load(p.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	return d, parity.Model{Tree: d.Tree(), Values: values}
}

func TestGoldenLoRASteps(t *testing.T) {
	d, model := goldenLoRA(t)
	g := parity.Open(t, "train", "lora", "golden.safetensors")
	checkSteps(t, d, model, loss.LoRAPlace, goldenSteps{
		numbers: readNumbers(t, "train", "lora", "golden.json"), tolerance: 5e-4,
		first: named(g, "lora.unet.", "grad."), after: named(g, "lora.unet.", "after3."),
		batch: func(i int) []parity.Tensor {
			prefix := fmt.Sprintf("batch%d.", i)
			return []parity.Tensor{
				g.Image(prefix + "latents"), g.Image(prefix + "noise"), g.Get(prefix + "timesteps"),
				g.Get("encoder_hidden_states"),
			}
		},
	})
}

// A LoRA goes on from the file of either naming, and only with the settings that it was trained with.
func TestLoRAGoesOn(t *testing.T) {
	model := openModel(t, smallModel(t))
	r := Recipe{}
	networks := r.diffusion("lora", Options{Batch: 2}, model).Tree()
	l := loss.LoRA{
		Rank: 2, Alpha: 6, Targets: []string{"attn2.to_q", "conv_shortcut", "conv1"}, TextTargets: []string{"q_proj"},
	}
	values := nn.InitValues(l.Tree(networks), 5)
	for key, data := range values {
		for i := range data {
			data[i] += float32(len(key)*(i+1)) / 100 // zeros too
		}
	}
	dir := t.TempDir()
	if err := l.Save(dir, "both", networks, values.Within(loss.LoRAPlace)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{loss.LoRAFile, loss.LoRAKohyaFile} {
		got, err := l.Load(model, networks, filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for key, want := range values {
			for i := range want {
				// One naming has alpha within B.
				if diff := math.Abs(float64(got[key][i] - want[i])); !(diff <= 1e-6*math.Abs(float64(want[i]))) {
					t.Fatalf("%s: %s[%d]: got %g, want %g", name, key, i, got[key][i], want[i])
				}
			}
		}
	}
	for want, other := range map[string]loss.LoRA{
		"rank: got 4, the file has 2 for ": {
			Rank: 4, Alpha: 6, Targets: l.Targets, TextTargets: l.TextTargets,
		},
		"layers to train that the file lacks: 4, the " +
			"first unet.": {Rank: 2, Alpha: 6, Targets: append(l.Targets, "attn2.to_k"), TextTargets: l.TextTargets},
		"layers of the file that are not to be trained: 1, the first " +
			"text_encoder.text_model.encoder.layers.0.self_attn.q_proj ": {Rank: 2, Alpha: 6, Targets: l.Targets},
	} {
		if _, err := other.Load(model, networks, filepath.Join(dir, loss.LoRAFile)); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
