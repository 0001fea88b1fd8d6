package checkpoint

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"limner/internal/suggest"
	"limner/models/nn"
	"limner/models/safetensors"
)

// Check fits the layers of one component to a network: names with underscores get the dots that the
// network's own have. It fails with one error that lists every layer that the network does not have or
// that has other widths there.
func (l *LoRA) Check(component string, tree nn.Tree) error {
	specs := make(map[string]nn.Spec, len(tree))
	for _, s := range tree {
		if module, ok := strings.CutSuffix(s.Key, ".weight"); ok && (s.Kind == nn.Dense || s.Kind == nn.Kernel) {
			specs[module] = s
		}
	}
	kohya := kohyaModules(tree)
	names := make([]string, 0, len(specs))
	for module := range specs {
		names = append(names, module)
	}
	var wrong []string
	header, n := "", 0
	for i, layer := range l.Layers {
		if layer.Component != component {
			continue
		}
		n++
		if module, ok := kohya[layer.kohya]; ok && layer.kohya != "" {
			layer.Module = module
		}
		s, ok := specs[layer.Module]
		if !ok {
			if bare := strings.TrimPrefix(layer.Module, textPrefix); specs[bare].Key != "" {
				layer.Module, s, ok = bare, specs[bare], true
			}
		}
		l.Layers[i] = layer
		switch {
		case !ok:
			line := "no such layer: " + layer.Module
			if len(wrong) < listed {
				line += suggest.Near(layer.Module, names)
			}
			wrong = append(wrong, line)
		case !layer.fits(s):
			wrong = append(wrong, fmt.Sprintf("shape: %s: got %s, want %s", layer.Module, layer.widths(), widths(s)))
			if in := layer.Down.Shape[1]; header == "" && strings.HasSuffix(layer.Module, ".attn2.to_k") &&
				in != s.Shape[0] {
				header = fmt.Sprintf("made for %s of cross_attention_dim %d%s, this one has %d%s: ",
					article(component), in, familyOfWidth(in), s.Shape[0], familyOfWidth(s.Shape[0]))
			}
		}
	}
	l.sort()
	if len(wrong) > 0 {
		return fmt.Errorf("LoRA %s: %s%d of %d layers do not fit the %s:%s",
			l.path, header, len(wrong), n, component, list(wrong))
	}
	return nil
}

// fits says whether the layer's matrices have the widths of a parameter.
func (l LoRALayer) fits(s nn.Spec) bool {
	want := s.FileShape() // [out, in, …]
	down, up := withoutPixels(l.Down).Shape, l.Up.Shape
	if want[0] != up[0] || want[1] != down[1] {
		return false
	}
	return slices.Equal(withoutPixels(safetensors.Tensor{Shape: want}).Shape[2:], down[2:])
}

func (l LoRALayer) widths() string {
	return fmt.Sprintf("%v and %v", l.Down.Shape, l.Up.Shape)
}

// widths are those that down and up must have for a parameter.
func widths(s nn.Spec) string {
	f := s.FileShape()
	if len(f) == 4 {
		return fmt.Sprintf("[rank %d %d %d] and [%d rank 1 1]", f[1], f[2], f[3], f[0])
	}
	return fmt.Sprintf("[rank %d] and [%d rank]", f[1], f[0])
}

// familyOfWidth names the family that a cross_attention_dim is known from.
func familyOfWidth(width int) string {
	switch width {
	case 768:
		return " (SD 1.x)"
	case 1024:
		return " (SD 2.x)"
	case 2048:
		return " (SDXL)"
	}
	return ""
}

func article(component string) string {
	if component == UNet {
		return "a UNet"
	}
	return "a " + component
}

// LoRAMatrices is the change to one layer in memory's layout, for a graph that applies it at run time:
// y += userScale·Scale·up(down(x)).
type LoRAMatrices struct {
	Module    string
	DownShape []int // [in, rank] or [height, width, in, rank]
	UpShape   []int // [rank, out] or [1, 1, rank, out]
	Down, Up  []float32
	Scale     float64 // alpha/rank
}

// Matrices checks the LoRA against a network as Check does and returns its layers in the tree's order.
// A convolution's have four dimensions each, a linear layer's two, whatever the file has.
func (l *LoRA) Matrices(component string, tree nn.Tree) ([]LoRAMatrices, error) {
	if err := l.Check(component, tree); err != nil {
		return nil, err
	}
	var all []LoRAMatrices
	for _, s := range tree {
		layer, ok := l.layer(component, s)
		if !ok {
			continue
		}
		m, err := layer.matrices(s)
		if err != nil {
			return nil, fmt.Errorf("LoRA %s: %s: %w", l.path, layer.Module, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func (l LoRALayer) matrices(s nn.Spec) (LoRAMatrices, error) {
	m := LoRAMatrices{Module: l.Module, Scale: l.Scale()}
	in, out, rank := s.Shape[len(s.Shape)-2], s.Shape[len(s.Shape)-1], l.Rank()
	m.DownShape = append(slices.Clone(s.Shape[:len(s.Shape)-2]), in, rank)
	m.UpShape = []int{rank, out}
	if s.Kind == nn.Kernel {
		m.UpShape = []int{1, 1, rank, out}
	}
	var err error
	if m.Down, err = l.Down.InOrder(safetensors.MemoryOrder); err != nil {
		return m, err
	}
	m.Up, err = l.Up.InOrder(safetensors.MemoryOrder)
	return m, err
}

// Delta is what the LoRA adds to a parameter at scale 1, alpha/rank·up·down, in memory's layout; nil where
// it does not change the parameter. Check must have fitted the LoRA to the network.
func (l *LoRA) Delta(component string, s nn.Spec) ([]float32, error) {
	layer, ok := l.layer(component, s)
	if !ok {
		return nil, nil
	}
	m, err := layer.matrices(s)
	if err != nil {
		return nil, fmt.Errorf("LoRA %s: %s: %w", l.path, layer.Module, err)
	}
	rank, out := layer.Rank(), s.Shape[len(s.Shape)-1]
	rows := s.Size() / out // down is [rows, rank], up is [rank, out]
	delta := make([]float32, s.Size())
	scale := float32(m.Scale)
	var group sync.WaitGroup
	part := max(1, rows/(4*runtime.GOMAXPROCS(0)))
	for begin := 0; begin < rows; begin += part {
		group.Go(func() {
			for i := begin; i < min(begin+part, rows); i++ {
				row := delta[i*out : (i+1)*out]
				for r := range rank {
					d := scale * m.Down[i*rank+r]
					for j, u := range m.Up[r*out : (r+1)*out] {
						row[j] += d * u
					}
				}
			}
		})
	}
	group.Wait()
	return delta, nil
}

// Fuse adds the LoRA's changes to a component to its values, which stand under the tree's keys, in place.
func (l *LoRA) Fuse(component string, tree nn.Tree, values nn.Values, scale float64) error {
	if err := l.Check(component, tree); err != nil {
		return err
	}
	for _, s := range tree {
		delta, err := l.Delta(component, s)
		if err != nil {
			return err
		}
		v := values[s.Key]
		if delta != nil && len(v) != len(delta) {
			return fmt.Errorf("LoRA %s: %s: got %d values, want %d", l.path, s.Key, len(v), len(delta))
		}
		for i, d := range delta {
			v[i] += float32(scale) * d
		}
	}
	return nil
}
