package sample

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/models/sd"
	"limner/xla"
)

// LoRAs are applied at run time: their matrices are parameters beside the networks', their scales an input, so that
// neither weights nor programs change with a scale.

// loraPrefix begins the names of those matrices.
const loraPrefix = "lora"

// LoRAKeys are the keys of a layer's matrices among the parameters of a Model with several LoRAs. path is the layer's,
// from the network's name on.
func LoRAKeys(lora int, path string) (down, up string) {
	key := fmt.Sprintf("%s%d.%s", loraPrefix, lora, path)
	return key + ".down", key + ".up"
}

// lora describes the layers of LoRA i.
func (m Model) lora(i int) []sd.LoRALayer {
	var layers []sd.LoRALayer
	for _, l := range m.LoRAs[i].Layers {
		down, up := LoRAKeys(i, l.Path)
		layers = append(layers, sd.LoRALayer{
			Path: l.Path, Scale: l.Scale,
			Down: nn.Spec{Key: down, Shape: l.DownShape}, Up: nn.Spec{Key: up, Shape: l.UpShape},
		})
	}
	return layers
}

// loraTree lists the matrices of all LoRAs for the given networks.
func (m Model) loraTree(components ...string) nn.Tree {
	var tree nn.Tree
	for i, lora := range m.LoRAs {
		for k, l := range m.lora(i) {
			if slices.Contains(components, lora.Layers[k].Component) {
				tree = append(tree, l.Down, l.Up)
			}
		}
	}
	return tree
}

// loraValues are the values of all LoRAs' matrices.
func (m Model) loraValues() nn.Values {
	values := nn.Values{}
	for i, lora := range m.LoRAs {
		for k, l := range m.lora(i) {
			values[l.Down.Key], values[l.Up.Key] = lora.Layers[k].Down, lora.Layers[k].Up
		}
	}
	return values
}

// withLoRAs puts the LoRAs at the layers whose matrices params has. scales is a vector with the user's scale of each.
func (m Model) withLoRAs(params nn.Params, scales *Node) nn.Params {
	loras := make([]sd.LoRA, len(m.LoRAs))
	for i := range loras {
		loras[i] = sd.LoRA{Layers: m.lora(i), Scale: Reshape(Slice(scales, AxisElem(i)))}
	}
	return sd.WithLoRAs(params, loras...)
}

// loraScales is the input for the LoRAs' scales. Without a LoRA it is one number that nothing reads.
func (m Model) loraScales() xla.Value {
	return xla.Value{Name: inputLoRAs, Shape: shapes.Make(dtypes.Float32, max(1, len(m.LoRAs)))}
}
