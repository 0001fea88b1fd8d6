package sample

import (
	"fmt"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/xla"
)

// encoder is one text encoder of a model.
type encoder struct {
	component string
	config    clip.Config
	tokenizer *clip.Tokenizer
}

func (m Model) encoders() []encoder {
	p := m.Pipeline
	all := []encoder{{diffusers.TextEncoder, p.Text, p.Tokenizer}}
	if p.XL != nil {
		all = append(all, encoder{diffusers.TextEncoder2, p.XL.Text, p.XL.Tokenizer})
	}
	return all
}

// encoderNames are the names of the text encoders.
func (m Model) encoderNames() []string {
	var names []string
	for _, e := range m.encoders() {
		names = append(names, e.component)
	}
	return names
}

// withoutAdded lists the parameters of a text encoder with those that are added to its table of token embeddings apart,
// behind it.
func (m Model) withoutAdded(tree nn.Tree) nn.Tree {
	var out nn.Tree
	for _, spec := range tree {
		added := m.Added[spec.Key]
		for _, rows := range added {
			spec.Shape = []int{spec.Shape[0] - rows.Shape[0], spec.Shape[1]}
		}
		out = append(append(out, spec), added...)
	}
	return out
}

// withAdded puts the added rows behind those of the tables, in the tables' dtype.
func (m Model) withAdded(tree nn.Tree, params nn.Params) nn.Params {
	var tables nn.Tree
	var nodes []*Node
	for _, spec := range tree {
		if m.Added[spec.Key] == nil {
			continue
		}
		parts := []*Node{params.Param(spec.Key, spec.Kind, spec.Init, spec.FanIn, spec.Shape...)}
		for _, rows := range m.Added[spec.Key] {
			x := params.Param(rows.Key, rows.Kind, rows.Init, rows.FanIn, rows.Shape...)
			parts = append(parts, ConvertDType(x, parts[0].DType()))
		}
		table := Concatenate(parts, 0)
		spec.Shape = table.Shape().Dimensions
		tables, nodes = append(tables, spec), append(nodes, table)
	}
	return nn.Join(nn.Bind(tables, nodes), params)
}

// textFunction maps token ids int32 [batch, tokens], one input for each text encoder, to its text embeddings float32
// [batch, tokens, hidden_size] and, in SDXL, to the second one's pooled embeddings float32 [batch, projection_dim]
// behind them. clipSkip is the number of last layers to leave out. SDXL leaves out one more than it says, and the final
// norm.
func (p *Pipeline) textFunction(clipSkip int) xla.Function {
	tree, encoders, xl := p.trees.text, p.model.encoders(), p.model.Pipeline.XL != nil
	f := xla.Function{Name: "encode_text", Inputs: append(p.parameters(tree), p.model.loraScales())}
	for _, e := range encoders {
		f.Inputs = append(f.Inputs, batch(e.component+"_ids", dtypes.Int32, p.shape.Batch, e.tokenizer.MaxLength()))
		f.Outputs = append(f.Outputs, xla.Batch)
	}
	if xl {
		f.Outputs = append(f.Outputs, xla.Batch)
	}
	f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
		params, ids := p.model.withAdded(tree, p.bind(tree, in)), in[len(tree)+1:]
		params = p.model.withLoRAs(params, in[len(tree)])
		var pooled *Node
		for i, e := range encoders {
			place := params.In(e.component)
			out := e.config.Forward(place, ids[i], p.model.Compute)
			hidden := out.LastHiddenState
			switch last := len(out.HiddenStates) - 1; {
			case xl:
				hidden = out.HiddenStates[last-1-clipSkip]
			case clipSkip > 0:
				hidden = e.config.FinalNorm(place.In("text_model"), out.HiddenStates[last-clipSkip])
			}
			outputs = append(outputs, ConvertDType(hidden, dtypes.Float32))
			pooled = out.TextEmbeds
		}
		if xl {
			outputs = append(outputs, ConvertDType(pooled, dtypes.Float32))
		}
		return nil, outputs
	}
	return f
}

// CheckClipSkip reports how many layers the text encoders cannot leave out.
func (m Model) CheckClipSkip(n int) error {
	for _, e := range m.encoders() {
		most, besides := e.config.NumHiddenLayers, ""
		if m.Pipeline.XL != nil {
			most, besides = most-1, ", of which SDXL leaves out one more"
		}
		if n < 0 || n > most {
			return fmt.Errorf("clip_skip %d: want 0 to %d, %s has %d layers%s", n, most, e.component, e.config.NumHiddenLayers, besides)
		}
	}
	return nil
}
