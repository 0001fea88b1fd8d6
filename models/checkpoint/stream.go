package checkpoint

import (
	"fmt"

	"limner/models/nn"
	"limner/models/safetensors"
)

// Stream is that of nn.Source: it checks the model against the tree as Load does, then calls visit with every parameter
// in the tree's order. No memory is taken but for the parts of one parameter that are on their way. A finite value that
// F16 cannot hold is an error that names it.
func (m *Model) Stream(tree nn.Tree, dtype string, visit nn.Visit) error {
	return m.StreamPart(tree, tree, dtype, visit)
}

// StreamPart checks the model against the tree, then does as Stream for a part of it.
func (m *Model) StreamPart(tree, part nn.Tree, dtype string, visit nn.Visit) error {
	if dtype != "F32" && dtype != "F16" && dtype != "BF16" {
		return fmt.Errorf("load %s: dtype %q: want F32, F16 or BF16", m.path, dtype)
	}
	return m.visit(tree, part, func(s nn.Spec, t safetensors.Tensor) error {
		return visit(s, func(to []byte) error {
			if err := t.MoveTo(to, dtype, orderOf(s.Kind)); err != nil {
				return fmt.Errorf("load %s: %s: %w", m.path, s.Key, err)
			}
			return nil
		})
	})
}

// Sample checks the model against the tree, then calls visit with n elements of every parameter of a part of it, spread
// evenly over the parameter in memory's layout; with all elements of smaller ones. No more of the file is read than
// what they lie in.
func (m *Model) Sample(tree, part nn.Tree, n int, visit func(spec nn.Spec, elements []float32) error) error {
	return m.visit(tree, part, func(s nn.Spec, t safetensors.Tensor) error {
		elements := make([]float32, min(n, s.Size()))
		for i := range elements {
			var err error
			if elements[i], err = t.Element(sampled(i, len(elements), s.Size()), orderOf(s.Kind)); err != nil {
				return fmt.Errorf("load %s: %s: %w", m.path, s.Key, err)
			}
		}
		return visit(s, elements)
	})
}

// visit checks the model against the tree and gives the tensors of a part of it.
func (m *Model) visit(tree, part nn.Tree, do func(nn.Spec, safetensors.Tensor) error) error {
	found, err := m.fit(tree)
	if err != nil {
		return err
	}
	for _, s := range part {
		t, ok := m.tensors[found[s.Key]]
		if !ok {
			return fmt.Errorf("load %s: no parameter %s in the model", m.path, s.Key)
		}
		if err := do(s, t); err != nil {
			return err
		}
	}
	return nil
}

// sampled is where the i-th of n elements lies, which are spread evenly over size.
func sampled(i, n, size int) int { return i * size / n }
