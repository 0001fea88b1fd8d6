package checkpoint

import (
	"fmt"
	"slices"

	"limner/models/nn"
)

// NewTensor is a parameter's values in memory's layout as a tensor in F32.
func NewTensor(spec nn.Spec, values []float32) Tensor {
	var scratch []float32
	return floats(spec.FileShape(), slices.Clone(toFile(spec, values, &scratch)), FileOrder)
}

// Encode gives values in a dtype that Entry.Float32s is written as; those of F32 share their memory.
func Encode(values []float32, dtype string) ([]byte, error) {
	var scratch []byte
	return floats([]int{len(values)}, values, FileOrder).elements(dtype, FileOrder, &scratch)
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
			if err := floats(s.Shape, values, FileOrder).moveTo(to, dtype, FileOrder); err != nil {
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
		return write(bytesOf(values[s.Key]))
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}
