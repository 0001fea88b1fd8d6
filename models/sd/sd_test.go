package sd_test

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/controlnet"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/sd"
	"limner/models/unet"
	"limner/models/vae"
)

func same(t *testing.T, what string, got, want parity.Tensor) {
	t.Helper()
	if !slices.Equal(got.Data, want.Data) {
		t.Errorf("%s: got %v, want %v", what, got.Data[:min(4, len(got.Data))], want.Data[:min(4, len(want.Data))])
	}
}

// A table of token embeddings in parts encodes as the whole one.
func TestTokenRows(t *testing.T) {
	p, model := openGolden(t, "sd15-tiny", diffusers.TextEncoder)
	const added = 3
	e := p.TextEncoders()[0]
	width, own := e.Config.HiddenSize, e.Config.VocabSize-added
	rows := sd.TokenRows{e.Name: {
		{Key: "new.0", Shape: []int{1, width}, Kind: nn.Table},
		{Key: "new.1", Shape: []int{added - 1, width}, Kind: nn.Table},
	}}
	key := e.Name + "." + clip.TokenTable
	table := model.Values[key]
	parts := parity.Model{Tree: append(rows.Tree(e), rows[e.Name]...), Values: nn.Merge(model.Values, nn.Values{
		key: table[:own*width], "new.0": table[own*width : (own+1)*width], "new.1": table[(own+1)*width:],
	})}
	ids := parity.Tensor{Data: []float32{0, float32(own), float32(own + 2), 5}, Shape: []int{1, 4}}
	encode := func(m parity.Model, bind func(nn.Params) nn.Params) parity.Tensor {
		got := parity.Run(t, m, []parity.Tensor{ids}, func(params nn.Params, in []*Node, out map[string]*Node) {
			hidden, _ := p.EncodeText(bind(params), []*Node{ConvertDType(in[0], dtypes.Int32)}, 1, dtypes.Float32)
			out["text"] = hidden[0]
		})
		return got["text"]
	}
	want := encode(model, func(p nn.Params) nn.Params { return p })
	same(t, "text", encode(parts, func(params nn.Params) nn.Params {
		return p.WithTokens(params, rows, dtypes.Float32)
	}), want)
}

// A LoRA adds its product to its layer, times both scales; layers whose matrices a program lacks stay as they are.
func TestLoRA(t *testing.T) {
	layer := func(name string) sd.LoRALayer {
		return sd.LoRALayer{
			Path: "net." + name, Scale: 2,
			Down: nn.Spec{Key: name + ".down", Shape: []int{2, 1}}, Up: nn.Spec{Key: name + ".up", Shape: []int{1, 2}},
		}
	}
	a, b := layer("a"), layer("b")
	model := parity.Model{
		Tree: nn.Tree{
			{Key: "net.a.weight", Shape: []int{2, 2}}, {Key: "net.b.weight", Shape: []int{2, 2}}, a.Down, a.Up,
		},
		Values: nn.Values{
			"net.a.weight": {1, 0, 0, 1}, "net.b.weight": {1, 0, 0, 1}, a.Down.Key: {1, 1}, a.Up.Key: {1, 3},
		},
	}
	x := parity.Tensor{Data: []float32{1, 2}, Shape: []int{1, 2}}
	got := parity.Run(t, model, []parity.Tensor{x}, func(p nn.Params, in []*Node, out map[string]*Node) {
		half := Scalar(in[0].Graph(), dtypes.Float32, 0.5)
		for name, lora := range map[string]sd.LoRA{"whole": {}, "half": {Scale: half}} {
			lora.Layers = []sd.LoRALayer{a, b}
			p := sd.WithLoRAs(p, lora)
			out[name+" a"] = nn.LinearNoBias(p.In("net.a"), in[0], 2)
			out[name+" b"] = nn.LinearNoBias(p.In("net.b"), in[0], 2)
		}
	})
	for name, want := range map[string][]float32{
		"whole a": {7, 20}, "half a": {4, 11}, "whole b": {1, 2}, "half b": {1, 2},
	} {
		same(t, name, got[name], parity.Tensor{Data: want})
	}
}

// The residuals of ControlNets are added up, each as it is adjusted.
func TestResiduals(t *testing.T) {
	c := parity.Config(t, controlnet.ParseConfig, "sd15-tiny", "controlnet", "config.json")
	model := parity.Load(t, c.Tree(), "sd15-tiny", "controlnet")
	model = parity.Model{Tree: model.Tree.Under(sd.ControlNet), Values: model.Values.Under(sd.ControlNet)}
	file := filepath.Base(golden.Glob(t, "components", "sd15", "unet_case*.safetensors")[0])
	g := parity.Open(t, "components", "sd15", file)
	inputs := append(g.UNetInputs(""), g.Image("controlnet_cond_u8").Map(parity.FromCondition))
	got := parity.Run(t, model, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
		sample, timesteps, context := parity.UNetNodes(in[:len(in)-1])
		one := sd.Control{Config: c, Name: sd.ControlNet}
		one.Embedding = c.CondEmbedding(p.In(sd.ControlNet).In(controlnet.Embedding), in[len(in)-1])
		twice := one
		twice.Adjust = func(r *unet.Residuals) *unet.Residuals {
			return r.Map(func(x *Node) *Node { return MulScalar(x, 2) })
		}
		if r := sd.Residuals(p, nil, sample, timesteps, context); r != nil {
			t.Error("there are residuals without a ControlNet")
		}
		alone := c.Forward(p.In(sd.ControlNet), sample, timesteps, context, in[len(in)-1])
		sum := sd.Residuals(p, []sd.Control{one, twice}, sample, timesteps, context)
		for name, r := range map[string]*unet.Residuals{"sum ": sum, "alone ": alone} {
			out[name+"mid"], out[name+"first"] = r.Mid, r.Down[0]
		}
	})
	for _, name := range []string{"mid", "first"} {
		thrice := got["alone "+name].Map(func(v float32) float32 { return 3 * v })
		parity.Check(t, name, got["sum "+name], thrice, 1e-6)
	}
}

// A draw of the posterior is its mean and as many deviations as the normals say, scaled.
func TestLatents(t *testing.T) {
	c := vae.Config{LatentChannels: 1, ScalingFactor: 0.5}
	moments := parity.Tensor{Data: []float32{3, float32(2 * math.Log(4)), -1, 0}, Shape: []int{1, 1, 2, 2}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{moments}, func(_ nn.Params, in []*Node, out map[string]*Node) {
		out["latents"] = sd.Latents(c, in[0], func(dims ...int) *Node {
			return MulScalar(Ones(in[0].Graph(), shapes.Make(dtypes.Float32, dims...)), 0.25)
		})
	})
	parity.Check(t, "latents", got["latents"], parity.Tensor{Data: []float32{2, -0.375}, Shape: []int{1, 1, 2, 1}},
		1e-6)
}
