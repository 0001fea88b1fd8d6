package sd

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// LoRA is a change of low rank to layers (Hu et al. 2021, arXiv:2106.09685), whose matrices are parameters beside the
// networks'.
type LoRA struct {
	Layers []LoRALayer
	Scale  *Node // float32 scalar, by which that of each layer is multiplied; nil is 1
}

// LoRALayer is the change to one layer: y += Scale·up(down(x)).
type LoRALayer struct {
	Path  string  // of the layer, from its network's name on
	Down  nn.Spec // [in, rank] or, of a convolution, [height, width, in, rank]
	Up    nn.Spec // [rank, out] or [1, 1, rank, out]
	Scale float64 // alpha/rank
	// Dropout, in training, is applied to x on its way to Down; nil passes it.
	Dropout func(x *Node) *Node
}

// WithLoRAs returns p, which is at the root, with LoRAs on the layers whose matrices it has: a program may hold a part
// of the networks.
func WithLoRAs(p nn.Params, loras ...LoRA) nn.Params {
	adapters := map[string][]nn.Adapter{}
	for _, lora := range loras {
		for _, l := range lora.Layers {
			if !p.Has(l.Down.Key) {
				continue
			}
			a := nn.Adapter{Down: p.Get(l.Down), Up: p.Get(l.Up), Dropout: l.Dropout}
			if lora.Scale == nil {
				a.Scale = Scalar(a.Down.Graph(), dtypes.Float32, l.Scale)
			} else {
				a.Scale = MulScalar(lora.Scale, l.Scale)
			}
			adapters[l.Path] = append(adapters[l.Path], a)
		}
	}
	return p.WithAdapters(adapters)
}
