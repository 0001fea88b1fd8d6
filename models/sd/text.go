package sd

import (
	"fmt"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// EncodeText maps token ids int32 [batch, tokens], one node for each text encoder, to what the UNet reads of them, in
// the given dtype: the hidden states [batch, tokens, hidden_size] of each text encoder, which the UNet reads beside
// each other, and SDXL's pooled embeddings [batch, projection_dim], nil elsewhere.
//
// Stable Diffusion reads the last hidden states behind the final norm, which clip skip moves so many layers to the
// front. SDXL reads those before the last layer without the final norm, clip skip counted from there, and pools the
// second text encoder's projection. p is at the root.
func (n Networks) EncodeText(p nn.Params, ids []*Node, clipSkip int,
	dtype dtypes.DType) (hidden []*Node, pooled *Node) {
	for i, e := range n.TextEncoders() {
		p := p.In(e.Name)
		out := e.Config.Forward(p, ids[i], dtype)
		last := len(out.HiddenStates) - 1
		switch {
		case n.XL():
			hidden = append(hidden, out.HiddenStates[last-1-clipSkip])
			pooled = out.TextEmbeds
		case clipSkip == 0:
			hidden = append(hidden, out.LastHiddenState)
		default:
			hidden = append(hidden, e.Config.FinalNorm(p.In("text_model"), out.HiddenStates[last-clipSkip]))
		}
	}
	return hidden, pooled
}

// CheckClipSkip reports how many layers the text encoders cannot leave out.
func (n Networks) CheckClipSkip(clipSkip int) error {
	for _, e := range n.TextEncoders() {
		most, besides := e.Config.NumHiddenLayers, ""
		if n.XL() {
			most, besides = most-1, ", of which SDXL leaves out one more"
		}
		if clipSkip < 0 || clipSkip > most {
			return fmt.Errorf("clip_skip %d: want 0 to %d, %s has %d layers%s",
				clipSkip, most, e.Name, e.Config.NumHiddenLayers, besides)
		}
	}
	return nil
}
