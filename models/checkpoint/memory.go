package checkpoint

import (
	"fmt"
	"slices"

	"limner/models/nn"
	"limner/models/safetensors"
)

// NewTensor is a parameter's values in memory's layout as a tensor in F32.
func NewTensor(spec nn.Spec, values []float32) safetensors.Tensor {
	var scratch []float32
	return safetensors.Floats(spec.FileShape(), slices.Clone(toFile(spec, values, &scratch)), safetensors.FileOrder)
}

// InMemory makes values a source of parameters. It fails for a tree with a key that they do not have.
type InMemory nn.Values

// Stream is that of nn.Source.
func (v InMemory) Stream(tree nn.Tree, dtype string, visit nn.Visit) error {
	if dtype != "F32" && dtype != "F16" && dtype != "BF16" {
		return fmt.Errorf("dtype %q: want F32, F16 or BF16", dtype)
	}
	for _, s := range tree {
		values, err := v.of(s)
		if err != nil {
			return err
		}
		err = visit(s, func(to []byte) error {
			if err := safetensors.Floats(s.Shape, values, safetensors.FileOrder).MoveTo(to, dtype,
				safetensors.FileOrder); err != nil {
				return fmt.Errorf("parameter %s: %w", s.Key, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Sample calls visit with n elements of every parameter of the tree, as Model.Sample does.
func (v InMemory) Sample(tree nn.Tree, n int, visit func(spec nn.Spec, elements []float32) error) error {
	for _, s := range tree {
		values, err := v.of(s)
		if err != nil {
			return err
		}
		elements := make([]float32, min(n, len(values)))
		for i := range elements {
			elements[i] = values[sampled(i, len(elements), len(values))]
		}
		if err := visit(s, elements); err != nil {
			return err
		}
	}
	return nil
}

// of are the values of a parameter.
func (v InMemory) of(s nn.Spec) ([]float32, error) {
	values, ok := v[s.Key]
	if !ok {
		return nil, fmt.Errorf("no values for parameter %s", s.Key)
	} else if len(values) != s.Size() {
		return nil, fmt.Errorf("parameter %s: got %d values, want %d for %v", s.Key, len(values), s.Size(), s.Shape)
	}
	return values, nil
}

// Collect reads every parameter of a tree from a source. It gives none with an error.
func Collect(from nn.Source, tree nn.Tree) (nn.Values, error) {
	values := make(nn.Values, len(tree))
	err := from.Stream(tree, "F32", func(s nn.Spec, write func(to []byte) error) error {
		values[s.Key] = make([]float32, s.Size())
		return write(safetensors.BytesOf(values[s.Key]))
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// toFile changes values from memory's layout to a diffusers file's, in scratch, which grows as needed. It returns its
// argument where the two are the same.
func toFile(s nn.Spec, memory []float32, scratch *[]float32) []float32 {
	shape := s.FileShape()
	if orderOf(s.Kind) == safetensors.FileOrder || safetensors.SameOrder(shape) {
		return memory
	}
	*scratch = slices.Grow((*scratch)[:0], len(memory))
	file := (*scratch)[:len(memory)]
	_ = safetensors.Floats(shape, memory, safetensors.MemoryOrder).MoveTo(safetensors.BytesOf(file), "F32",
		safetensors.FileOrder) // F32 holds them all
	return file
}
