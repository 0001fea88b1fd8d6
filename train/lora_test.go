package train

import (
	"fmt"
	"math"
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
	d.LoRA = &LoRA{Rank: 4, Alpha: 4, Targets: AttentionTargets}
	tree := d.LoRA.Tree(model.Tree)
	model.Tree = append(model.Tree, tree...)
	p, err := diffusers.Open(golden.Path(t, "sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := p.OpenLoRA(golden.Path(t, "train", "lora", "pytorch_lora_weights.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range file.Layers {
		model.Values["lora."+layer.Path+".lora_A.weight"] = layer.Down
		model.Values["lora."+layer.Path+".lora_B.weight"] = layer.Up
	}
	if got, want := 2*len(file.Layers), len(tree); got != want {
		t.Fatalf("the golden has %d matrices, the targets give %d", got, want)
	}
	return d, model
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
	tensor := func(group string) func(nn.Spec) parity.Tensor {
		return func(spec nn.Spec) parity.Tensor { return g.Get(group + strings.TrimPrefix(spec.Key, "lora.unet.")) }
	}
	checkSteps(t, d, model, loraPlace, goldenSteps{
		losses: []string{"train", "lora", "golden.json"}, first: tensor("grad."), after: tensor("after3."),
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
