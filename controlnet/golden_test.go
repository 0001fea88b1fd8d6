package controlnet_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/controlnet"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/nn"
	"limner/models/unet"
)

func load(t *testing.T, family string) (controlnet.Config, unet.Config, parity.Model) {
	t.Helper()
	u := parity.Config(t, unet.ParseConfig, family+"-tiny", "unet", "config.json")
	c := parity.Config(t, controlnet.ParseConfig, family+"-tiny", "controlnet", "config.json")
	control, base := parity.Load(t, c.Tree(), family+"-tiny", "controlnet"),
		parity.Load(t, u.Tree(), family+"-tiny", "unet")
	both := parity.Model{
		Tree:   append(control.Tree.Under("controlnet"), base.Tree.Under("unet")...),
		Values: nn.Merge(control.Values.Under("controlnet"), base.Values.Under("unet")),
	}
	return c, u, both
}

// firstCase is a golden of a family's UNet and ControlNet.
func firstCase(t *testing.T, family string) parity.File {
	t.Helper()
	return parity.Open(t, "components", family,
		filepath.Base(golden.Glob(t, "components", family, "unet_case*.safetensors")[0]))
}

// inputs are those of the UNet, then the conditioning image.
func inputs(g parity.File) []parity.Tensor {
	return append(g.UNetInputs(""), g.Image("controlnet_cond_u8").Map(parity.FromCondition))
}

func nodes(in []*Node) (sample, timesteps *Node, context unet.Context, cond *Node) {
	last := len(in) - 1
	sample, timesteps, context = parity.UNetNodes(in[:last])
	return sample, timesteps, context, in[last]
}

func TestGoldenControlNet(t *testing.T) {
	for _, family := range golden.Families {
		c, u, model := load(t, family)
		for _, path := range golden.Glob(t, "components", family, "unet_case*.safetensors") {
			name := strings.TrimSuffix(filepath.Base(path), ".safetensors")
			t.Run(family+"/"+name, func(t *testing.T) {
				g := parity.Open(t, "components", family, filepath.Base(path))
				got := parity.Run(t, model, inputs(g), func(p nn.Params, in []*Node, out map[string]*Node) {
					sample, timesteps, context, cond := nodes(in)
					plain := c.Forward(p.In("controlnet"), sample, timesteps, context, cond)
					for variant := range residualNames(g) {
						scale, guess := parseVariant(t, variant)
						r := c.Scale(plain, Scalar(sample.Graph(), dtypes.Float32, scale), guess)
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
						out["cond_embedding"] = c.CondEmbedding(p.In("controlnet.controlnet_cond_embedding"), cond)
					}
					out["out_controlnet"] = u.Forward(p.In("unet"), sample, timesteps, context, plain)
				})
				if !g.Has("cn.down.0") || !g.Has("cn.mid") {
					t.Error("the golden has no residuals")
				}
				number := strings.TrimPrefix(name, "unet_")
				residual := golden.Tolerance(t, fmt.Sprintf("%s/controlnet %s mid", family, number), 5e-5)
				whole := golden.Tolerance(t, fmt.Sprintf("%s/unet+controlnet %s", family, number), 5e-5)
				for key, x := range got {
					tolerance := residual
					if key == "out_controlnet" {
						tolerance = whole
					}
					parity.Check(t, key, x, g.Image(key), tolerance)
				}
			})
		}
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
	for _, family := range golden.Families {
		t.Run(family, func(t *testing.T) {
			c, _, model := load(t, family)
			g := parity.Open(t, "components", family, "eps_probe.safetensors")
			got := parity.Run(t, model.Shrink(0.02), inputs(g), func(p nn.Params, in []*Node, out map[string]*Node) {
				sample, timesteps, context, cond := nodes(in)
				out["mid"] = c.Forward(p.In("controlnet"), sample, timesteps, context, cond).Mid
			})
			parity.Check(t, "out.controlnet_mid", got["mid"], g.Image("out.controlnet_mid"), 3e-5)
		})
	}
}

// A fresh ControlNet answers with zeros, so the UNet's output keeps every bit.
func TestFreshControlNetChangesNothing(t *testing.T) {
	c, u, model := load(t, "sd15")
	drawn, copied := c.Init(model.Tree.Within("unet"), 1)
	for _, spec := range copied {
		drawn[spec.Key] = model.Values["unet."+spec.Key]
	}
	model.Values = nn.Merge(model.Values, drawn.Under("controlnet"))
	g := firstCase(t, "sd15")
	got := parity.Run(t, model, inputs(g), func(p nn.Params, in []*Node, out map[string]*Node) {
		sample, timesteps, context, cond := nodes(in)
		r := c.Forward(p.In("controlnet"), sample, timesteps, context, cond)
		out["with"] = u.Forward(p.In("unet"), sample, timesteps, context, r)
		out["without"] = u.Forward(p.In("unet"), sample, timesteps, context, nil)
	})
	parity.Check(t, "with a fresh ControlNet", got["with"], got["without"], 0)
}

// The variants that no golden shows: BGR images, residuals pooled over the image, a scale for each residual.
func TestVariants(t *testing.T) {
	c, u, model := load(t, "sd21")
	bgr, pooled := c, c
	bgr.ConditioningChannelOrder = "bgr"
	pooled.GlobalPoolConditions = true
	if !reflect.DeepEqual(bgr.Tree(), c.Tree()) {
		t.Error("the order of the conditioning image's channels changes the parameters")
	}
	g := firstCase(t, "sd21")
	got := parity.Run(t, model, inputs(g), func(p nn.Params, in []*Node, out map[string]*Node) {
		sample, timesteps, context, cond := nodes(in)
		embedding := p.In("controlnet.controlnet_cond_embedding")
		out["rgb"] = c.CondEmbedding(embedding, cond)
		out["bgr"] = bgr.CondEmbedding(embedding, Reverse(cond, -1))

		plain := c.Forward(p.In("controlnet"), sample, timesteps, context, cond)
		half := Scalar(sample.Graph(), dtypes.Float32, 0.5)
		r := pooled.Scale(plain, half, true) // no guess mode with pooling
		out["pooled"] = r.Down[0]
		out["means"] = MulScalar(ReduceAndKeep(plain.Down[0], ReduceMean, 1, 2), 0.5)
		out["with pooled"] = u.Forward(p.In("unet"), sample, timesteps, context, r)
		spread := &unet.Residuals{Mid: BroadcastToShape(r.Mid, plain.Mid.Shape())}
		for i, x := range r.Down {
			spread.Down = append(spread.Down, BroadcastToShape(x, plain.Down[i].Shape()))
		}
		out["with spread"] = u.Forward(p.In("unet"), sample, timesteps, context, spread)

		scales := Iota(sample.Graph(), shapes.Make(dtypes.Float32, len(plain.Down)+1), 0)
		each := c.Scale(plain, scales, false)
		out["third"], out["third alone"] = each.Down[2], MulScalar(plain.Down[2], 2)
		out["mid"], out["mid alone"] = each.Mid, MulScalar(plain.Mid, float64(len(plain.Down)))
	})
	for name, want := range map[string]string{
		"bgr": "rgb", "pooled": "means", "with pooled": "with spread", "third": "third alone", "mid": "mid alone",
	} {
		parity.Check(t, name, got[name], got[want], 1e-6)
	}
}

func TestWrongFamilyIsNamed(t *testing.T) {
	c, _, _ := load(t, "sdxl")
	_, u, _ := load(t, "sd15")
	err := c.CheckUNet(u)
	if err == nil {
		t.Fatal("an SDXL ControlNet fits an SD 1.5 UNet")
	}
	for _, want := range []string{
		"cross_attention_dim: the ControlNet has 40, the UNet 32",
		"block_out_channels: the ControlNet has [8 16 24], the UNet [16 16 24 32]",
		"width of the pooled text: the ControlNet has 20, the UNet 0",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q in it", err, want)
		}
	}
	inpainting := u
	inpainting.InChannels = 9
	plain := controlnet.FromUNet(u, nil)
	if err := plain.CheckUNet(inpainting); err != nil {
		t.Errorf("a ControlNet of 4 channels with an inpainting UNet: %v", err)
	}
}
