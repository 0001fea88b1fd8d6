package unet_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/nn"
	"limner/models/unet"
)

func loadUNet(t *testing.T) (unet.Config, parity.Model) {
	t.Helper()
	c := parity.Config(t, unet.ParseConfig, "sd15-tiny", "unet", "config.json")
	return c, parity.Load(t, c.Tree(), "sd15-tiny", "unet")
}

func TestGoldenUNet(t *testing.T) {
	c, model := loadUNet(t)
	cases, _ := filepath.Glob(golden.Path(t, "components", "sd15", "unet_case*.safetensors"))
	if len(cases) == 0 {
		t.Fatal("no unet_case files")
	}
	for _, path := range cases {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			g := parity.Open(t, "components", "sd15", name)
			inputs := []parity.Tensor{g.Image("sample"), g.Get("timestep"), g.Get("encoder_hidden_states")}
			got := parity.Run(t, model, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
				out["out"] = c.Forward(p, in[0], in[1], in[2], nil)
				for _, key := range g.Keys() { // out_t499.5 is at one timestep for all
					if text, ok := strings.CutPrefix(key, "out_t"); ok {
						timestep, err := strconv.ParseFloat(text, 64)
						if err != nil {
							t.Fatalf("%s: %v", key, err)
						}
						out[key] = c.Forward(p, in[0], AddScalar(ZerosLike(in[1]), timestep), in[2], nil)
					}
				}
			})
			for key, x := range got {
				parity.Check(t, key, x, g.Image(key), 5e-5)
			}
		})
	}
}

func TestGoldenUNetActivations(t *testing.T) {
	c, model := loadUNet(t)
	g := parity.Open(t, "components", "sd15", "unet_activations.safetensors")
	inputs := []parity.Tensor{g.Image("in.sample"), g.Get("in.timestep"), g.Get("in.encoder_hidden_states")}
	got := parity.Run(t, model, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
		p = p.WithProbe(func(path string, x *Node) {
			if g.Has("act." + path) {
				out["act."+path] = x
			}
		})
		out["out"] = c.Forward(p, in[0], in[1], in[2], nil)
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
}

func TestGoldenUNetEpsilon(t *testing.T) {
	c, model := loadUNet(t)
	g := parity.Open(t, "components", "sd15", "eps_probe.safetensors")
	inputs := []parity.Tensor{g.Image("sample"), g.Get("timestep"), g.Get("encoder_hidden_states")}
	got := parity.Run(t, model.Shrink(0.02), inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
		out["unet"] = c.Forward(p, in[0], in[1], in[2], nil)
	})
	parity.Check(t, "out.unet", got["unet"], g.Image("out.unet"), 3e-5)
}
