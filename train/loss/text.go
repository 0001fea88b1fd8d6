package loss

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/models/sd"
	"limner/models/unet"
)

// TokenTable is the key of a text encoder's token embeddings.
const TokenTable = "text_model.embeddings.token_embedding.weight"

// encoderTree lists a text encoder's parameters, its table of embeddings without the rows of new tokens.
func encoderTree(e sd.Encoder, tokens []Token) nn.Tree {
	tree := e.Config.Tree()
	for i, spec := range tree {
		if spec.Key == TokenTable {
			tree[i].Shape = []int{spec.Shape[0] - tokenRows(tokens), spec.Shape[1]}
		}
	}
	return tree.Under(e.Name)
}

// Context is what the UNet is told of the captions, in the compute dtype.
func (d Diffusion) Context(p nn.Params, in map[string]*Node) unet.Context {
	ids := []*Node{in[InputTokens]}
	if d.XL() {
		ids = append(ids, in[InputTokens2])
	}
	hidden, pooled := d.EncodeText(p, ids, 0, d.Compute)
	return unet.Context{Text: Concatenate(hidden, -1), Pooled: pooled, TimeIDs: in[InputTimeIDs]}
}
