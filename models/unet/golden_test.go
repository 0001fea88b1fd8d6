package unet_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/unet"
)

func loadUNet(t *testing.T, family string) (unet.Config, parity.Model) {
	t.Helper()
	c := parity.Config(t, unet.ParseConfig, family+"-tiny", "unet", "config.json")
	return c, parity.Load(t, c.Tree(), family+"-tiny", "unet")
}

// forward is the network, for inputs as UNetInputs gives them.
func forward(c unet.Config) func(p nn.Params, in []*Node, out map[string]*Node) {
	return func(p nn.Params, in []*Node, out map[string]*Node) {
		sample, timesteps, context := parity.UNetNodes(in)
		out["out"] = c.Forward(p, sample, timesteps, context, nil)
	}
}

func TestGoldenUNet(t *testing.T) {
	for _, family := range golden.Families {
		c, model := loadUNet(t, family)
		for _, path := range golden.Glob(t, "components", family, "unet_case*.safetensors") {
			name := strings.TrimSuffix(filepath.Base(path), ".safetensors")
			t.Run(family+"/"+name, func(t *testing.T) {
				g := parity.Open(t, "components", family, filepath.Base(path))
				inputs := g.UNetInputs("")
				program := parity.Compile(t, parity.Backend(t), model.Tree, inputs, forward(c))
				tolerance := golden.Tolerance(t, strings.Replace(family+"/"+name, "unet_", "unet ", 1), 5e-5)
				parity.Check(t, "out", program.Run(model.Values, inputs...)["out"], g.Image("out"), tolerance)
				for _, key := range g.Keys() { // out_t499.5 is at one timestep for all
					if text, ok := strings.CutPrefix(key, "out_t"); ok {
						timestep, err := strconv.ParseFloat(text, 64)
						if err != nil {
							t.Fatalf("%s: %v", key, err)
						}
						inputs[1] = inputs[1].Map(func(float32) float32 { return float32(timestep) })
						parity.Check(t, key, program.Run(model.Values, inputs...)["out"], g.Image(key), tolerance)
					}
				}
			})
		}
	}
}

func TestGoldenUNetActivations(t *testing.T) {
	for _, path := range golden.Glob(t, "components", "*", "unet_activations.safetensors") {
		family := filepath.Base(filepath.Dir(path))
		t.Run(family, func(t *testing.T) {
			c, model := loadUNet(t, family)
			g := parity.Open(t, "components", family, "unet_activations.safetensors")
			inputs := g.UNetInputs("in.")
			got := parity.Compile(t, parity.Optimized(t), model.Tree, inputs,
				func(p nn.Params, in []*Node, out map[string]*Node) {
					p = p.WithProbe(func(path string, x *Node) {
						if g.Has("act." + path) {
							out["act."+path] = x
						}
					})
					forward(c)(p, in, out)
				}).Run(model.Values, inputs...)
			for _, key := range g.Keys() {
				if strings.HasPrefix(key, "act.") || key == "out" {
					x, ok := got[key]
					if !ok {
						t.Errorf("%s is not shown to the probe", key)
						continue
					}
					parity.Check(t, key, x, g.Image(key), 1e-5)
				}
			}
		})
	}
}

func TestGoldenUNetEpsilon(t *testing.T) {
	for _, family := range golden.Families {
		t.Run(family, func(t *testing.T) {
			c, model := loadUNet(t, family)
			g := parity.Open(t, "components", family, "eps_probe.safetensors")
			got := parity.Run(t, model.Shrink(0.02), g.UNetInputs(""), forward(c))
			parity.Check(t, "out.unet", got["out"], g.Image("out.unet"), 3e-5)
		})
	}
}

// The inpainting UNet has a first convolution of 9 channels: latents, mask, latents of the masked image. Where those
// behind the latents are zero, it is the UNet whose first convolution is cut to the first four.
func TestGoldenInpainting(t *testing.T) {
	c, model := loadUNet(t, "sd15")
	wide := parity.Open(t, "sd15-tiny-extra", "unet_inpaint9_conv_in.safetensors").Get("conv_in.weight")
	inpainting := c
	inpainting.InChannels = wide.Shape[1] // of [out, in, height, width]
	if err := inpainting.Validate(); err != nil {
		t.Fatal(err)
	}
	out, in, size := wide.Shape[0], wide.Shape[1], wide.Shape[2]*wide.Shape[3]
	kernel := make([]float32, size*in*out) // [height, width, in, out]
	for o := range out {
		for i := range in {
			for k := range size {
				kernel[(k*in+i)*out+o] = wide.Data[(o*in+i)*size+k]
			}
		}
	}
	cut := make([]float32, 0, size*c.InChannels*out)
	for k := range size {
		cut = append(cut, kernel[k*in*out:(k*in+c.InChannels)*out]...)
	}
	g := parity.Open(t, "components", "sd15",
		filepath.Base(golden.Glob(t, "components", "sd15", "unet_case*.safetensors")[0]))
	predict := func(c unet.Config, kernel []float32) parity.Tensor {
		m := parity.Model{Tree: c.Tree(), Values: nn.Merge(model.Values, nn.Values{"conv_in.weight": kernel})}
		return parity.Run(t, m, g.UNetInputs(""), func(p nn.Params, in []*Node, out map[string]*Node) {
			sample := in[0]
			if extra := c.InChannels - sample.Shape().Dim(-1); extra > 0 {
				dims := append([]int{}, sample.Shape().Dimensions[:3]...)
				zeros := BroadcastToDims(ScalarZero(sample.Graph(), sample.DType()), append(dims, extra)...)
				in = append([]*Node{Concatenate([]*Node{sample, zeros}, -1)}, in[1:]...)
			}
			forward(c)(p, in, out)
		})["out"]
	}
	parity.Check(t, fmt.Sprintf("with %d channels", inpainting.InChannels), predict(inpainting, kernel),
		predict(c, cut), 5e-6)
}

// A LoRA gives the same whether its changes are applied at run time or added to the weights, in each of its namings.
func TestGoldenLoRA(t *testing.T) {
	c, model := loadUNet(t, "sd15")
	g, loaded := parity.Open(t, "train", "lora", "golden.safetensors"),
		parity.Open(t, "train", "lora", "out_loaded.safetensors")
	inputs := []parity.Tensor{g.Image("batch0.latents"), g.Get("batch0.timesteps"), g.Get("encoder_hidden_states")}
	plain := parity.Compile(t, parity.Backend(t), model.Tree, inputs, forward(c))
	parity.Check(t, "out_base", plain.Run(model.Values, inputs...)["out"], g.Image("out_base"), 5e-5)
	var adapted *parity.Program // of the layers below, the same in all namings
	var layers []checkpoint.LoRAMatrices
	for name, want := range map[string]parity.Tensor{
		"pytorch_lora_weights.safetensors": loaded.Image("out_loaded"), // without alpha, which is the rank then
		"kohya.safetensors":                g.Image("out_lora"),
	} {
		lora, err := checkpoint.OpenLoRA(golden.Path(t, "train", "lora", name))
		if err != nil {
			t.Fatal(err)
		}
		defer lora.Close()
		found, err := lora.Matrices("unet", c.Tree())
		if err != nil {
			t.Fatal(err)
		}
		both, scales := adaptedModel(model, found)
		if adapted == nil {
			layers = found
			adapted = parity.Compile(t, parity.Backend(t), both.Tree, append(inputs, scales), withLoRA(c, found))
		}
		if !slices.EqualFunc(found, layers, func(a, b checkpoint.LoRAMatrices) bool { return a.Module == b.Module }) {
			t.Fatalf("%s has other layers than the other file", name)
		}
		got := adapted.Run(both.Values, append(inputs, scales)...)
		parity.Check(t, name+" at run time", got["out"], want, 5e-5)

		fused := nn.Values{}
		for key, values := range model.Values {
			fused[key] = slices.Clone(values)
		}
		if err := lora.Fuse("unet", c.Tree(), fused, 1); err != nil {
			t.Fatal(err)
		}
		parity.Check(t, name+" fused", plain.Run(fused, inputs...)["out"], want, 5e-5)
	}
}

// adaptedModel is the model with a LoRA's matrices beside its parameters, and the scales of the layers.
func adaptedModel(model parity.Model, layers []checkpoint.LoRAMatrices) (both parity.Model, scales parity.Tensor) {
	both = parity.Model{Tree: slices.Clone(model.Tree), Values: nn.Merge(model.Values)}
	scales.Shape = []int{len(layers)}
	for _, l := range layers {
		down, up := "lora."+l.Module+".down", "lora."+l.Module+".up"
		both.Tree = append(both.Tree, nn.Spec{Key: down, Shape: l.DownShape}, nn.Spec{Key: up, Shape: l.UpShape})
		both.Values[down], both.Values[up] = l.Down, l.Up
		scales.Data = append(scales.Data, float32(l.Scale))
	}
	return both, scales
}

// withLoRA is forward with a LoRA's layers applied at run time. Their scales are the last input.
func withLoRA(c unet.Config, layers []checkpoint.LoRAMatrices) func(p nn.Params, in []*Node, out map[string]*Node) {
	return func(p nn.Params, in []*Node, out map[string]*Node) {
		adapters, scales := map[string][]nn.Adapter{}, in[len(in)-1]
		for i, l := range layers {
			at := p.In("lora." + l.Module)
			adapters[l.Module] = []nn.Adapter{{
				Down:  at.Param("down", nn.Dense, nn.InitZeros, 0, l.DownShape...),
				Up:    at.Param("up", nn.Dense, nn.InitZeros, 0, l.UpShape...),
				Scale: Squeeze(Slice(scales, AxisElem(i))),
			}}
		}
		forward(c)(p.WithAdapters(adapters), in[:len(in)-1], out)
	}
}
