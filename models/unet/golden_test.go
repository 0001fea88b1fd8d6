package unet_test

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
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

func TestGoldenUNet(t *testing.T) {
	for _, family := range golden.Families {
		c, model := loadUNet(t, family)
		for _, path := range golden.Glob(t, "components", family, "unet_case*.safetensors") {
			name := strings.TrimSuffix(filepath.Base(path), ".safetensors")
			t.Run(family+"/"+name, func(t *testing.T) {
				g := parity.Open(t, "components", family, filepath.Base(path))
				got := parity.Run(t, model, g.UNetInputs(""), func(p nn.Params, in []*Node, out map[string]*Node) {
					sample, timesteps, context := parity.UNetNodes(in)
					out["out"] = c.Forward(p, sample, timesteps, context, nil)
					for _, key := range g.Keys() { // out_t499.5 is at one timestep for all
						if text, ok := strings.CutPrefix(key, "out_t"); ok {
							timestep, err := strconv.ParseFloat(text, 64)
							if err != nil {
								t.Fatalf("%s: %v", key, err)
							}
							out[key] = c.Forward(p, sample, AddScalar(ZerosLike(timesteps), timestep), context, nil)
						}
					}
				})
				tolerance := golden.Tolerance(t, strings.Replace(family+"/"+name, "unet_", "unet ", 1), 5e-5)
				for key, x := range got {
					parity.Check(t, key, x, g.Image(key), tolerance)
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
			got := parity.Run(t, model, g.UNetInputs("in."), func(p nn.Params, in []*Node, out map[string]*Node) {
				p = p.WithProbe(func(path string, x *Node) {
					if g.Has("act." + path) {
						out["act."+path] = x
					}
				})
				sample, timesteps, context := parity.UNetNodes(in)
				out["out"] = c.Forward(p, sample, timesteps, context, nil)
			})
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
			got := parity.Run(t, model.Shrink(0.02), g.UNetInputs(""), func(p nn.Params, in []*Node, out map[string]*Node) {
				sample, timesteps, context := parity.UNetNodes(in)
				out["unet"] = c.Forward(p, sample, timesteps, context, nil)
			})
			parity.Check(t, "out.unet", got["unet"], g.Image("out.unet"), 3e-5)
		})
	}
}

// The inpainting UNet has a first convolution of 9 channels: latents, mask, latents of the masked image. Where the last five
// are zero, it is the UNet whose first convolution is cut to the first four.
func TestGoldenInpainting(t *testing.T) {
	c, model := loadUNet(t, "sd15")
	wide := parity.Open(t, "sd15-tiny-extra", "unet_inpaint9_conv_in.safetensors").Get("conv_in.weight") // [out, 9, 3, 3]
	inpainting := c
	inpainting.InChannels = wide.Shape[1]
	if err := inpainting.Validate(); err != nil {
		t.Fatal(err)
	}
	const size = 3 * 3
	out, in := wide.Shape[0], wide.Shape[1]
	kernel := make([]float32, size*in*out) // [3, 3, in, out]
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
	g := parity.Open(t, "components", "sd15", "unet_case3.safetensors")
	predict := func(c unet.Config, kernel []float32) parity.Tensor {
		m := parity.Model{Tree: c.Tree(), Values: nn.Merge(model.Values, nn.Values{"conv_in.weight": kernel})}
		return parity.Run(t, m, g.UNetInputs(""), func(p nn.Params, in []*Node, out map[string]*Node) {
			sample, timesteps, context := parity.UNetNodes(in)
			if extra := c.InChannels - sample.Shape().Dim(-1); extra > 0 {
				dims := append([]int{}, sample.Shape().Dimensions[:3]...)
				zeros := BroadcastToDims(ScalarZero(sample.Graph(), sample.DType()), append(dims, extra)...)
				sample = Concatenate([]*Node{sample, zeros}, -1)
			}
			out["out"] = c.Forward(p, sample, timesteps, context, nil)
		})["out"]
	}
	parity.Check(t, "with 9 channels", predict(inpainting, kernel), predict(c, cut), 5e-6)
}

// A LoRA gives the same whether its changes are applied at run time or added to the weights, in each of its namings.
func TestGoldenLoRA(t *testing.T) {
	c, model := loadUNet(t, "sd15")
	g, loaded := parity.Open(t, "train", "lora", "golden.safetensors"), parity.Open(t, "train", "lora", "out_loaded.safetensors")
	inputs := []parity.Tensor{g.Image("batch0.latents"), g.Get("batch0.timesteps"), g.Get("encoder_hidden_states")}
	for name, want := range map[string]parity.Tensor{
		"pytorch_lora_weights.safetensors": loaded.Image("out_loaded"), // the format has no alpha: diffusers takes the rank
		"kohya.safetensors":                g.Image("out_lora"),
	} {
		t.Run(name, func(t *testing.T) {
			lora, err := checkpoint.OpenLoRA(golden.Path(t, "train", "lora", name))
			if err != nil {
				t.Fatal(err)
			}
			defer lora.Close()
			layers, err := lora.Matrices("unet", c.Tree())
			if err != nil {
				t.Fatal(err)
			}
			both := parity.Model{Tree: model.Tree, Values: nn.Merge(model.Values)}
			for _, l := range layers {
				both.Tree = append(both.Tree,
					nn.Spec{Key: "lora." + l.Module + ".down", Shape: l.DownShape}, nn.Spec{Key: "lora." + l.Module + ".up", Shape: l.UpShape})
				both.Values["lora."+l.Module+".down"], both.Values["lora."+l.Module+".up"] = l.Down, l.Up
			}
			got := parity.Run(t, both, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
				adapters := map[string][]nn.Adapter{}
				for _, l := range layers {
					at := p.In("lora." + l.Module)
					adapters[l.Module] = []nn.Adapter{{
						Down: at.Param("down", nn.Dense, nn.InitZeros, 0, l.DownShape...), Up: at.Param("up", nn.Dense, nn.InitZeros, 0, l.UpShape...),
						Scale: Scalar(in[0].Graph(), dtypes.Float32, l.Scale),
					}}
				}
				sample, timesteps, context := parity.UNetNodes(in)
				out["base"] = c.Forward(p, sample, timesteps, context, nil)
				out["lora"] = c.Forward(p.WithAdapters(adapters), sample, timesteps, context, nil)
			})
			parity.Check(t, "out_base", got["base"], g.Image("out_base"), 5e-5)
			parity.Check(t, "at run time", got["lora"], want, 5e-5)

			fused := parity.Model{Tree: model.Tree, Values: nn.Values{}}
			for key, values := range model.Values {
				fused.Values[key] = slices.Clone(values)
			}
			if err := lora.Fuse("unet", c.Tree(), fused.Values, 1); err != nil {
				t.Fatal(err)
			}
			got = parity.Run(t, fused, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
				sample, timesteps, context := parity.UNetNodes(in)
				out["fused"] = c.Forward(p, sample, timesteps, context, nil)
			})
			parity.Check(t, "fused", got["fused"], want, 5e-5)
		})
	}
}
