package loss

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/unet"
)

// TokenTable is the key of a text encoder's token embeddings.
const TokenTable = "text_model.embeddings.token_embedding.weight"

// encoder is one text encoder of a model.
type encoder struct {
	name   string
	input  string      // of the batch
	config clip.Config // knows the new tokens
}

func (n Networks) Encoders() []encoder {
	all := []encoder{{diffusers.TextEncoder, InputTokens, n.Text}}
	if n.Text2 != nil {
		all = append(all, encoder{diffusers.TextEncoder2, InputTokens2, *n.Text2})
	}
	return all
}

// tree lists the encoder's parameters, its table of embeddings without the rows of new tokens.
func (e encoder) tree(tokens []Token) nn.Tree {
	tree := e.config.Tree()
	for i, spec := range tree {
		if spec.Key == TokenTable {
			tree[i].Shape = []int{spec.Shape[0] - tokenRows(tokens), spec.Shape[1]}
		}
	}
	return tree.Under(e.name)
}

// EncodeText computes the UNet's inputs from the captions, in the compute dtype: the last hidden states of Stable
// Diffusion's text encoder or, of SDXL, those before the last layer of both encoders beside each other, without the
// final norm, and the second one's projection as pooled embeddings.
func (d Diffusion) EncodeText(p nn.Params, in map[string]*Node) unet.Context {
	var hidden []*Node
	var pooled *Node
	for _, e := range d.Encoders() {
		out := e.config.Forward(p.In(e.name), in[e.input], d.Compute)
		if d.Text2 == nil {
			return unet.Context{Text: out.LastHiddenState}
		}
		hidden = append(hidden, out.HiddenStates[len(out.HiddenStates)-2])
		pooled = out.TextEmbeds
	}
	timeIDs := ConvertDType(in[InputTimeIDs], dtypes.Float32)
	return unet.Context{Text: Concatenate(hidden, -1), Pooled: pooled, TimeIDs: timeIDs}
}
