package diffusers

import (
	"errors"
	"fmt"
	"slices"

	"limner/models/checkpoint"
)

// LoRA is a LoRA that fits a pipeline: products of low rank that are added to layers of its networks.
type LoRA struct {
	Path   string // of the file, also where a folder was opened
	Layers []LoRALayer
	tokens []vectors // of the textual inversions in the file
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

// OpenLoRA reads a LoRA of any dialect, from a file or from the folder that it is in. It fails if a layer is not in the
// pipeline's networks or has other widths there.
func (p *Pipeline) OpenLoRA(path string) (*LoRA, error) {
	file, err := checkpoint.OpenLoRA(path)
	if err != nil {
		return nil, err
	}
	l, err := p.fitLoRA(file)
	return l, errors.Join(err, file.Close())
}

// AddLoRATokens teaches the pipeline the textual inversions that a LoRA's file holds, as AddEmbedding does.
func (p *Pipeline) AddLoRATokens(l *LoRA) error {
	for _, v := range l.tokens {
		if err := p.addVectors(v); err != nil {
			return fmt.Errorf("LoRA %s: its textual inversion %q: %w", l.Path, v.token, err)
		}
	}
	return nil
}

// Tokens are those of the textual inversions that the LoRA's file holds.
func (l *LoRA) Tokens() []string {
	var tokens []string
	for _, v := range l.tokens {
		tokens = append(tokens, v.token)
	}
	return tokens
}

func (p *Pipeline) fitLoRA(file *checkpoint.LoRA) (*LoRA, error) {
	l := &LoRA{Path: file.Path()}
	for _, component := range file.Components() {
		if !slices.Contains(p.Components(), component) {
			return nil, fmt.Errorf("LoRA %s changes the %s, which this model does not have", l.Path, component)
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
	for _, e := range file.Embeddings {
		v, err := p.vectorsOf(e)
		if err != nil {
			return nil, fmt.Errorf("LoRA %s: its textual inversion %q: %w", l.Path, e.Token, err)
		}
		l.tokens = append(l.tokens, v)
	}
	return l, nil
}
