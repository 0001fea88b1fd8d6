package diffusers

import (
	"errors"
	"fmt"
	"slices"

	"limner/models/checkpoint"
)

// LoRA is a LoRA that fits a pipeline: products of low rank that are added to layers of its networks.
type LoRA struct {
	Path   string
	Layers []LoRALayer
}

// LoRALayer is the change to one layer: y += userScale·Scale·up(down(x)).
type LoRALayer struct {
	Component string // the network's name
	Path      string // the layer's, from the network's name on
	DownShape []int  // [in, rank] or, of a convolution, [height, width, in, rank]
	UpShape   []int  // [rank, out] or [1, 1, rank, out]
	Down, Up  []float32
	Scale     float64 // alpha/rank
}

// OpenLoRA reads a LoRA of any dialect. It fails if a layer is not in the pipeline's networks or has other widths there.
func (p *Pipeline) OpenLoRA(path string) (*LoRA, error) {
	file, err := checkpoint.OpenLoRA(path)
	if err != nil {
		return nil, err
	}
	l, err := p.fitLoRA(path, file)
	return l, errors.Join(err, file.Close())
}

func (p *Pipeline) fitLoRA(path string, file *checkpoint.LoRA) (*LoRA, error) {
	l := &LoRA{Path: path}
	for _, component := range file.Components() {
		if !slices.Contains(p.Components(), component) {
			return nil, fmt.Errorf("LoRA %s changes the %s, which this model does not have", path, component)
		}
		layers, err := file.Matrices(component, p.Tree(component))
		if err != nil {
			return nil, err
		}
		for _, m := range layers {
			l.Layers = append(l.Layers, LoRALayer{
				Component: component, Path: component + "." + m.Module, DownShape: m.DownShape, UpShape: m.UpShape,
				Down: m.Down, Up: m.Up, Scale: m.Scale,
			})
		}
	}
	return l, nil
}
