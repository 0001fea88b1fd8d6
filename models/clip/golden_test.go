package clip_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/clip"
	"limner/models/nn"
)

// encoders lists the text encoders among the goldens by component folder and golden.
var encoders = []struct{ family, name string }{
	{"sd15", "text_encoder"}, {"sd21", "text_encoder"}, {"sdxl", "text_encoder"}, {"sdxl", "text_encoder_2"},
}

func loadTextEncoder(t *testing.T, family, name string) (clip.Config, parity.Model) {
	t.Helper()
	c := parity.Config(t, clip.ParseConfig, family+"-tiny", name, "config.json")
	return c, parity.Load(t, c.Tree(), family+"-tiny", name)
}

func TestGoldenTextEncoder(t *testing.T) {
	for _, e := range encoders {
		t.Run(e.family+"/"+e.name, func(t *testing.T) {
			c, model := loadTextEncoder(t, e.family, e.name)
			g := parity.Open(t, "components", e.family, e.name+".safetensors")
			got := parity.Run(t, model, []parity.Tensor{g.Get("input_ids")},
				func(p nn.Params, in []*Node, out map[string]*Node) {
					o := c.Forward(p, ConvertDType(in[0], dtypes.Int32), dtypes.Float32)
					out["last_hidden_state"], out["pooled"] = o.LastHiddenState, o.Pooled
					if c.Projects() {
						out["text_embeds"] = o.TextEmbeds
					}
					for i, h := range o.HiddenStates {
						key := fmt.Sprintf("hidden_states.%d", i)
						out[key] = firstRows(h, g.Get(key).Shape[0])
					}
					skipped := c.FinalNorm(p.In("text_model"), o.HiddenStates[len(o.HiddenStates)-2])
					out["clip_skip_1"] = firstRows(skipped, g.Get("clip_skip_1").Shape[0])
				})
			for _, key := range g.Keys() {
				if key == "input_ids" {
					continue
				}
				parity.Check(t, key, got[key], g.Get(key), 1e-5)
			}
		})
	}
}

func firstRows(x *Node, n int) *Node { return Slice(x, AxisRange(0, n)) }

func TestGoldenTextEncoderEpsilon(t *testing.T) {
	for _, family := range golden.Families {
		t.Run(family, func(t *testing.T) {
			c, model := loadTextEncoder(t, family, "text_encoder")
			g := parity.Open(t, "components", family, "eps_probe.safetensors")
			got := parity.Run(t, model.Shrink(0.02), []parity.Tensor{g.Get("input_ids")},
				func(p nn.Params, in []*Node, out map[string]*Node) {
					out["h"] = c.Forward(p, ConvertDType(in[0], dtypes.Int32), dtypes.Float32).LastHiddenState
				})
			parity.Check(t, "out.text_last_hidden_state", got["h"], g.Get("out.text_last_hidden_state"), 3e-5)
		})
	}
}

// With gradient checkpointing the layers are computed twice, and the gradients of all parameters are what they are
// without.
func TestCheckpointing(t *testing.T) {
	c, model := loadTextEncoder(t, "sd15", "text_encoder")
	ids := parity.Open(t, "components", "sd15", "text_encoder.safetensors").Get("input_ids")
	nodes := map[string]int{}
	got := parity.Run(t, model, []parity.Tensor{ids}, func(p nn.Params, in []*Node, out map[string]*Node) {
		var params []*Node
		for _, spec := range model.Tree {
			params = append(params, p.Param(spec.Key, spec.Kind, spec.Init, spec.FanIn, spec.Shape...))
		}
		gradients := func(name string, p nn.Params) {
			before := len(in[0].Graph().Nodes())
			output := c.Forward(p, ConvertDType(in[0], dtypes.Int32), dtypes.Float32)
			loss := ReduceAllMean(Square(output.LastHiddenState))
			for i, gradient := range Gradient(loss, params...) {
				out[name+model.Tree[i].Key] = gradient
			}
			nodes[name] = len(in[0].Graph().Nodes()) - before
		}
		gradients("", p)
		gradients("checkpointing ", p.WithCheckpointing(params...))
	})
	if nodes["checkpointing "] < nodes[""]*5/4 {
		t.Errorf("%d nodes, without checkpointing %d: the layers are not computed again",
			nodes["checkpointing "], nodes[""])
	}
	for _, spec := range model.Tree {
		// The bias of the keys shifts all scores of a query alike, so its gradient is 0 but for rounding.
		if !strings.HasSuffix(spec.Key, "k_proj.bias") {
			parity.Check(t, spec.Key, got["checkpointing "+spec.Key], got[spec.Key], 1e-5)
		}
	}
}
