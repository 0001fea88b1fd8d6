package sample

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/clip"
	"limner/models/sd"
	"limner/xla/program"
)

// encoder is a text encoder with its tokenizer.
type encoder struct {
	sd.Encoder
	tokenizer *clip.Tokenizer
}

// ids is the name of its token ids.
func (e encoder) ids() string { return e.Name + "_ids" }

// outputPooled is the pooled embeddings; the text embeddings of an encoder have its name.
const outputPooled = "pooled"

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
func (p *Pipeline) textFunction(clipSkip int) program.Function {
	tree, encoders, networks := p.trees.text, p.model.encoders(), p.model.Pipeline.Networks
	f := program.Function{Name: "encode_text", Inputs: append(p.parameters(tree), p.model.loraScales())}
	for _, e := range encoders {
		f.Inputs = append(f.Inputs, batch(e.ids(), dtypes.Int32, p.shape.Batch, e.tokenizer.MaxLength()))
		f.Outputs = append(f.Outputs, rowsOf(e.Name)...)
	}
	if networks.XL() {
		f.Outputs = append(f.Outputs, rowsOf(outputPooled)...)
	}
	f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		params := networks.WithTokens(p.bind(tree, in), p.model.Added, p.model.Compute)
		params = p.model.withLoRAs(params, in.Get(inputLoRAs))
		var ids []*Node
		for _, e := range encoders {
			ids = append(ids, in.Get(e.ids()))
		}
		hidden, pooled := networks.EncodeText(params, ids, clipSkip, p.model.Compute)
		outputs = program.Nodes{}
		for i, e := range encoders {
			outputs[e.Name] = ConvertDType(hidden[i], dtypes.Float32)
		}
		if pooled != nil {
			outputs[outputPooled] = ConvertDType(pooled, dtypes.Float32)
		}
		return nil, outputs
	}
	return f
}
