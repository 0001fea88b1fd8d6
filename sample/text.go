package sample

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/clip"
	"limner/models/nn"
	"limner/models/sd"
	"limner/xla"
)

// encoder is a text encoder with its tokenizer.
type encoder struct {
	sd.Encoder
	tokenizer *clip.Tokenizer
}

func (m Model) encoders() []encoder {
	var all []encoder
	tokenizers := m.Pipeline.Tokenizers()
	for i, e := range m.Pipeline.TextEncoders() {
		all = append(all, encoder{e, tokenizers[i]})
	}
	return all
}

// encoderNames are the names of the text encoders.
func (m Model) encoderNames() []string {
	var names []string
	for _, e := range m.encoders() {
		names = append(names, e.Name)
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
// behind them. clipSkip is the number of last layers to leave out.
func (p *Pipeline) textFunction(clipSkip int) xla.Function {
	tree, encoders, networks := p.trees.text, p.model.encoders(), p.model.Pipeline.Networks
	f := xla.Function{Name: "encode_text", Inputs: append(p.parameters(tree), p.model.loraScales())}
	for _, e := range encoders {
		f.Inputs = append(f.Inputs, batch(e.Name+"_ids", dtypes.Int32, p.shape.Batch, e.tokenizer.MaxLength()))
		f.Outputs = append(f.Outputs, xla.Batch)
	}
	if networks.XL() {
		f.Outputs = append(f.Outputs, xla.Batch)
	}
	f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
		params := p.model.withLoRAs(p.model.withAdded(tree, p.bind(tree, in)), in[len(tree)])
		outputs, pooled := networks.EncodeText(params, in[len(tree)+1:], clipSkip, p.model.Compute)
		if pooled != nil {
			outputs = append(outputs, pooled)
		}
		for i, x := range outputs {
			outputs[i] = ConvertDType(x, dtypes.Float32)
		}
		return nil, outputs
	}
	return f
}
