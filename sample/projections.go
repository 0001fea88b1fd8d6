package sample

import (
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/diffusers"
	"limner/models/nn"
	"limner/xla"
	"limner/xla/program"
)

// projectionsOf are the layers whose weights a tree lists.
func (m Model) projectionsOf(tree nn.Tree) []projection {
	controls := map[string]int{diffusers.UNet: -1}
	for i := range m.ControlNets {
		controls[ControlNetName(i)] = i
	}
	var layers []projection
	for _, spec := range tree {
		if path, weight := strings.CutSuffix(spec.Key, ".weight"); weight {
			network, _, _ := strings.Cut(path, ".")
			layers = append(layers, projection{path, spec.Shape[1], controls[network]})
		}
	}
	return layers
}

// projectionsAtWork are those of the UNet and of the ControlNets at work.
func (p *Pipeline) projectionsAtWork(controls uint64) []projection {
	var layers []projection
	for _, layer := range p.trees.projections {
		if layer.control < 0 || controls>>layer.control&1 == 1 {
			layers = append(layers, layer)
		}
	}
	return layers
}

// projectedValues describe the outputs of layers, [rows, tokens, channels] in the compute dtype.
func (p *Pipeline) projectedValues(layers []projection, key projectionKey) []xla.Value {
	values := make([]xla.Value, len(layers))
	for i, layer := range layers {
		rows := p.rows(key.guidance)
		if key.conditionalOnly(layer) {
			rows = p.shape.Batch
		}
		values[i] = batch(layer.path, p.model.Compute, rows, p.tokens(key.chunks), layer.channels)
	}
	return values
}

// tokens is the length of text embeddings of some chunks.
func (p *Pipeline) tokens(chunks int) int { return chunks * p.model.Pipeline.Tokenizer.MaxLength() }

// inputText is the name of the text embeddings.
const inputText = "text"

// projectFunction maps text embeddings float32 [rows, tokens, cross_attention_dim] to the outputs of all projections.
func (p *Pipeline) projectFunction(key projectionKey) program.Function {
	tree, layers := p.trees.project, p.trees.projections
	text := batch(inputText, dtypes.Float32, p.rows(key.guidance), p.tokens(key.chunks),
		p.model.Pipeline.UNet.CrossAttentionDim)
	f := program.Function{
		Name: "project_text", Apart: true,
		Inputs: append(p.parameters(tree), p.model.loraScales(), text), Outputs: p.projectedValues(layers, key),
	}
	f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		params := p.model.withLoRAs(p.bind(tree, in), in.Get(inputLoRAs))
		text := ConvertDType(in.Get(inputText), p.model.Compute)
		outputs = program.Nodes{}
		for _, layer := range layers {
			x := text
			if key.conditionalOnly(layer) {
				x = half(text, 1)
			}
			outputs[layer.path] = nn.LinearNoBias(params.In(layer.path), x, layer.channels)
		}
		return nil, outputs
	}
	return f
}
