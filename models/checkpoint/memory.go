package checkpoint

import (
	"fmt"

	"limner/models/nn"
)

// NewTensor is a parameter's values in memory's layout as a tensor in F32.
func NewTensor(spec nn.Spec, values []float32) Tensor {
	var scratch []float32
	t := Tensor{DType: "F32", Shape: spec.FileShape(), Data: make([]byte, 4*len(values))}
	encode(t.Data, t.DType, toFile(spec, values, &scratch))
	return t
}

// InMemory makes values a source of parameters. It fails for a tree with a key that they do not have.
type InMemory nn.Values

// Stream is that of nn.Source.
func (v InMemory) Stream(tree nn.Tree, dtype string, visit func(spec nn.Spec, data []byte) error) error {
	if dtype != "F32" && dtype != "F16" && dtype != "BF16" {
		return fmt.Errorf("dtype %q: want F32, F16 or BF16", dtype)
	}
	var scratch []byte
	for _, s := range tree {
		values, err := v.of(s)
		if err != nil {
			return err
		}
		size := len(values) * dtypes[dtype].bits / 8
		if cap(scratch) < size {
			scratch = make([]byte, size)
		}
		scratch = scratch[:size]
		if i := encode(scratch, dtype, values); i >= 0 {
			return fmt.Errorf("parameter %s: element %d is %g, which F16 cannot hold", s.Key, i, values[i])
		}
		if err := visit(s, scratch); err != nil {
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
	err := from.Stream(tree, "F32", func(s nn.Spec, data []byte) error {
		read, err := Tensor{DType: "F32", Shape: s.Shape, Data: data}.reader()
		if err == nil {
			values[s.Key] = make([]float32, s.Size())
			read(values[s.Key], 0)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}
