package sample

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/xla"
)

// LoRAs are applied at run time: their matrices are parameters beside the networks', their scales an input, so that
// neither weights nor programs change with a scale.

// loraPrefix begins the names of those matrices.
const loraPrefix = "lora"

// loraKey is the place of a layer's matrices in a tree.
func loraKey(lora int, path string) string { return fmt.Sprintf("%s%d.%s", loraPrefix, lora, path) }

// LoRAKeys are the keys of a layer's matrices among the parameters of a Model with several LoRAs. path is the layer's,
// from the network's name on.
func LoRAKeys(lora int, path string) (down, up string) {
	key := loraKey(lora, path)
	return key + ".down", key + ".up"
}

// loraTree lists the matrices of all LoRAs for the given networks.
func (m Model) loraTree(components ...string) nn.Tree {
	var tree nn.Tree
	for i, lora := range m.LoRAs {
		for _, l := range lora.Layers {
			if slices.Contains(components, l.Component) {
				down, up := LoRAKeys(i, l.Path)
				tree = append(tree, nn.Spec{Key: down, Shape: l.DownShape}, nn.Spec{Key: up, Shape: l.UpShape})
			}
		}
	}
	return tree
}

// loraValues are the values of all LoRAs' matrices.
func (m Model) loraValues() nn.Values {
	values := nn.Values{}
	for i, lora := range m.LoRAs {
		for _, l := range lora.Layers {
			down, up := LoRAKeys(i, l.Path)
			values[down], values[up] = l.Down, l.Up
		}
	}
	return values
}

// withLoRAs binds the LoRAs to the layers whose matrices params has. scales is a vector with the user's scale of each.
func (m Model) withLoRAs(params nn.Params, scales *Node) nn.Params {
	adapters := map[string][]nn.Adapter{}
	for i, lora := range m.LoRAs {
		scale := Reshape(Slice(scales, AxisElem(i)))
		for _, l := range lora.Layers {
			at := params.In(loraKey(i, l.Path))
			if !at.Has("down") {
				continue
			}
			adapters[l.Path] = append(adapters[l.Path], nn.Adapter{
				Down:  at.Param("down", nn.Dense, nn.InitZeros, 0, l.DownShape...),
				Up:    at.Param("up", nn.Dense, nn.InitZeros, 0, l.UpShape...),
				Scale: MulScalar(scale, l.Scale),
			})
		}
	}
	return params.WithAdapters(adapters)
}

// loraScales is the input for the LoRAs' scales. Without a LoRA it is one number that nothing reads.
func (m Model) loraScales() xla.Value {
	return xla.Value{Name: "lora_scales", Shape: shapes.Make(dtypes.Float32, max(1, len(m.LoRAs)))}
}
