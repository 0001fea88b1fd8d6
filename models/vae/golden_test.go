package vae_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/nn"
	"limner/models/vae"
)

func load(t *testing.T, family string) (vae.Config, parity.Model) {
	t.Helper()
	c := parity.Config(t, vae.ParseConfig, family+"-tiny", "vae", "config.json")
	return c, parity.Load(t, c.Tree(), family+"-tiny", "vae")
}

func TestGoldenVAE(t *testing.T) {
	for _, family := range golden.Families {
		t.Run(family, func(t *testing.T) { checkVAE(t, family) })
	}
}

func checkVAE(t *testing.T, family string) {
	c, model := load(t, family)
	g := parity.Open(t, "components", family, "vae.safetensors")
	cases := 0
	for i := 0; g.Has(fmt.Sprintf("enc%d.image_u8", i)); i++ {
		cases++
		prefix := fmt.Sprintf("enc%d.", i)
		images := g.Image(prefix + "image_u8").Map(parity.FromPixels)
		got := parity.Run(t, model, []parity.Tensor{images}, func(p nn.Params, in []*Node, out map[string]*Node) {
			out["mean"], out["logvar"] = c.Encode(p, in[0])
		})
		parity.Check(t, prefix+"mean", got["mean"], g.Image(prefix+"mean"), 5e-5)
		parity.Check(t, prefix+"logvar", got["logvar"], g.Image(prefix+"logvar"), 5e-5)
	}
	for i := 0; g.Has(fmt.Sprintf("dec%d.z", i)); i++ {
		cases++
		prefix := fmt.Sprintf("dec%d.", i)
		got := parity.Run(t, model, []parity.Tensor{g.Image(prefix + "z")},
			func(p nn.Params, in []*Node, out map[string]*Node) {
				out["image"] = c.Decode(p, in[0])
			})
		parity.Check(t, prefix+"image", got["image"], g.Image(prefix+"image"), 5e-5)
	}
	if cases == 0 {
		t.Fatal("no cases in the golden")
	}
}

func TestGoldenVAEActivations(t *testing.T) {
	c, model := load(t, "sd15")
	g := parity.Open(t, "components", "sd15", "vae_activations.safetensors")
	inputs := []parity.Tensor{g.Image("in.z"), g.Image("in.image_u8").Map(parity.FromPixels)}
	got := parity.Run(t, model, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
		p = p.WithProbe(func(path string, x *Node) {
			key := "act." + path
			if rest, ok := strings.CutPrefix(path, "encoder."); ok {
				key = "act." + rest
			}
			if g.Has(key) {
				out[key] = x
			}
		})
		c.Encode(p, in[1])
		c.Decode(p, in[0])
	})
	for _, key := range g.Keys() {
		if !strings.HasPrefix(key, "act.") {
			continue
		}
		x, ok := got[key]
		if !ok {
			t.Errorf("%s is not shown to the probe", key)
			continue
		}
		parity.Check(t, key, x, g.Image(key), 1e-5)
	}
}

func TestGoldenVAEEpsilon(t *testing.T) {
	for _, family := range golden.Families {
		t.Run(family, func(t *testing.T) {
			c, model := load(t, family)
			g := parity.Open(t, "components", family, "eps_probe.safetensors")
			inputs := []parity.Tensor{g.Image("z"), g.Image("vae_image_u8").Map(parity.FromPixels)}
			got := parity.Run(t, model.Shrink(0.02), inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
				out["vae_decode"] = c.Decode(p, in[0])
				out["vae_encode_mean"], _ = c.Encode(p, in[1])
			})
			for key, x := range got {
				parity.Check(t, "out."+key, x, g.Image("out."+key), 3e-5)
			}
		})
	}
}

// Files from before diffusers 0.14 name the attention's layers differently.
func TestGoldenVAEOldKeys(t *testing.T) {
	c, model := load(t, "sd15")
	f := parity.Open(t, "sd15-tiny-extra", "vae_old_attention_keys.safetensors")
	dir := t.TempDir()
	if err := os.Symlink(f.Path(), dir+"/diffusion_pytorch_model.safetensors"); err != nil {
		t.Fatal(err)
	}
	old := parity.LoadDir(t, c.Tree(), dir)
	for key, want := range model.Values {
		parity.Check(t, key, parity.Tensor{Data: old.Values[key]}, parity.Tensor{Data: want}, 0)
	}
}
