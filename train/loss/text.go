package loss

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/models/unet"
)

// Context is what the UNet is told of the captions, in the compute dtype.
func (d Diffusion) Context(p nn.Params, in map[string]*Node) unet.Context {
	ids := []*Node{in[InputTokens]}
	if d.XL() {
		ids = append(ids, in[InputTokens2])
	}
	hidden, pooled := d.EncodeText(p, ids, 0, d.Compute)
	return unet.Context{Text: Concatenate(hidden, -1), Pooled: pooled, TimeIDs: in[InputTimeIDs]}
}
