package sample

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/clip"
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
		params := networks.WithTokens(p.bind(tree, in), p.model.Added, p.model.Compute)
		params = p.model.withLoRAs(params, in[len(tree)])
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
