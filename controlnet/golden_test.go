package controlnet_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/controlnet"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/nn"
	"limner/models/unet"
)

func load(t *testing.T) (controlnet.Config, unet.Config, parity.Model) {
	t.Helper()
	u := parity.Config(t, unet.ParseConfig, "sd15-tiny", "unet", "config.json")
	c := parity.Config(t, controlnet.ParseConfig, "sd15-tiny", "controlnet", "config.json")
	control, base := parity.Load(t, c.Tree(), "sd15-tiny", "controlnet"), parity.Load(t, u.Tree(), "sd15-tiny", "unet")
	both := parity.Model{
		Tree:   append(control.Tree.Under("controlnet"), base.Tree.Under("unet")...),
		Values: nn.Merge(control.Values.Under("controlnet"), base.Values.Under("unet")),
	}
	return c, u, both
}

func TestGoldenControlNet(t *testing.T) {
	c, u, model := load(t)
	cases, _ := filepath.Glob(golden.Path(t, "components", "sd15", "unet_case*.safetensors"))
	if len(cases) == 0 {
		t.Fatal("no unet_case files")
	}
	for _, path := range cases {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			g := parity.Open(t, "components", "sd15", name)
			inputs := []parity.Tensor{g.Image("sample"), g.Get("timestep"), g.Get("encoder_hidden_states"),
				g.Image("controlnet_cond_u8").Map(parity.FromCondition)}
			got := parity.Run(t, model, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
				plain := c.Forward(p.In("controlnet"), in[0], in[1], in[2], in[3])
				for variant := range residualNames(g) {
					scale, guess := parseVariant(t, variant)
					r := controlnet.Scale(plain, Scalar(in[0].Graph(), dtypes.Float32, scale), guess)
					for i, x := range append(append([]*Node{}, r.Down...), r.Mid) {
						key := fmt.Sprintf("%s.down.%d", variant, i)
						if i == len(r.Down) {
							key = variant + ".mid"
						}
						if g.Has(key) {
							out[key] = x
						}
					}
				}
				if g.Has("cond_embedding") {
					out["cond_embedding"] = c.CondEmbedding(p.In("controlnet.controlnet_cond_embedding"), in[3])
				}
				out["out_controlnet"] = u.Forward(p.In("unet"), in[0], in[1], in[2], plain)
			})
			if !g.Has("cn.down.0") || !g.Has("cn.mid") {
				t.Error("the golden has no residuals")
			}
			for key, x := range got {
				parity.Check(t, key, x, g.Image(key), 5e-5)
			}
		})
	}
}

// residualNames are the variants of residuals in a golden: cn, cn_scale0.7, cn_guess, cn_guess0.6, …
func residualNames(g parity.File) map[string]bool {
	names := map[string]bool{}
	for _, key := range g.Keys() {
		if name, ok := strings.CutSuffix(key, ".mid"); ok {
			names[name] = true
		}
	}
	return names
}

// parseVariant reads the conditioning scale and guess mode off a variant's name.
func parseVariant(t *testing.T, name string) (scale float64, guess bool) {
	t.Helper()
	text, guess := strings.CutPrefix(name, "cn_guess")
	text = strings.TrimPrefix(strings.TrimPrefix(text, "cn"), "_scale")
	if text == "" {
		return 1, guess
	}
	scale, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("residuals %s: %v", name, err)
	}
	return scale, guess
}

func TestGoldenControlNetEpsilon(t *testing.T) {
	c, _, model := load(t)
	g := parity.Open(t, "components", "sd15", "eps_probe.safetensors")
	inputs := []parity.Tensor{g.Image("sample"), g.Get("timestep"), g.Get("encoder_hidden_states"),
		g.Image("controlnet_cond_u8").Map(parity.FromCondition)}
	got := parity.Run(t, model.Shrink(0.02), inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
		out["mid"] = c.Forward(p.In("controlnet"), in[0], in[1], in[2], in[3]).Mid
	})
	parity.Check(t, "out.controlnet_mid", got["mid"], g.Image("out.controlnet_mid"), 3e-5)
}

// A fresh ControlNet answers with zeros, so the UNet's output keeps every bit.
func TestFreshControlNetChangesNothing(t *testing.T) {
	c, u, model := load(t)
	model.Values = nn.Merge(model.Values, c.Init(model.Values.Within("unet"), 1).Under("controlnet"))
	g := parity.Open(t, "components", "sd15", "unet_case0.safetensors")
	inputs := []parity.Tensor{g.Image("sample"), g.Get("timestep"), g.Get("encoder_hidden_states"),
		g.Image("controlnet_cond_u8").Map(parity.FromCondition)}
	got := parity.Run(t, model, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
		r := c.Forward(p.In("controlnet"), in[0], in[1], in[2], in[3])
		out["with"] = u.Forward(p.In("unet"), in[0], in[1], in[2], r)
		out["without"] = u.Forward(p.In("unet"), in[0], in[1], in[2], nil)
	})
	parity.Check(t, "with a fresh ControlNet", got["with"], got["without"], 0)
}
