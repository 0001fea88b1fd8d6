package checkpoint

import (
	"fmt"

	"limner/models/nn"
)

// NewTensor is a parameter's values in memory's layout as a tensor in F32.
func NewTensor(spec nn.Spec, values []float32) Tensor {
	t := Tensor{DType: "F32", Shape: spec.FileShape(), Data: make([]byte, 4*len(values))}
	encode(t.Data, t.DType, toFile(spec, values))
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
		values, ok := v[s.Key]
		switch {
		case !ok:
			return fmt.Errorf("no values for parameter %s", s.Key)
		case len(values) != s.Size():
			return fmt.Errorf("parameter %s: got %d values, want %d for %v", s.Key, len(values), s.Size(), s.Shape)
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
