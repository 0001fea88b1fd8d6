package checkpoint

import (
	"fmt"
	"slices"

	"limner/internal/suggest"
	"limner/models/nn"
	"limner/models/safetensors"
)

// Load reads every parameter of the tree as float32 in memory's layout. Old spellings of keys are
// accepted (see QUIRKS.md). It fails with one error that lists every key that is missing, extra,
// misshapen or not floating point (codes: not bytes), with shapes as a diffusers file has them.
func (m *Model) Load(tree nn.Tree) (nn.Values, error) {
	values := make(nn.Values, len(tree))
	err := m.Each(tree, func(s nn.Spec, data []float32) error {
		values[s.Key] = slices.Clone(data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// Each calls visit with what Load reads, one parameter after another. data is visit's until it returns.
func (m *Model) Each(tree nn.Tree, visit func(spec nn.Spec, data []float32) error) error {
	var scratch []float32
	return m.visit(tree, tree, func(s nn.Spec, t safetensors.Tensor) error {
		scratch = slices.Grow(scratch[:0], s.Size())[:s.Size()]
		if err := t.MoveTo(safetensors.BytesOf(scratch), "F32", orderOf(s.Kind)); err != nil {
			return fmt.Errorf("load %s: %s: %w", m.path, s.Key, err)
		}
		return visit(s, scratch)
	})
}

// Check fails as Load does if the model does not hold the tree's parameters and no others.
func (m *Model) Check(tree nn.Tree) error {
	_, err := m.fit(tree)
	return err
}

// fit finds the model's key for each parameter of the tree. It fails with one error that lists
// everything that does not fit.
func (m *Model) fit(tree nn.Tree) (map[string]string, error) {
	if err := checkTree(tree); err != nil {
		return nil, fmt.Errorf("load %s: %w", m.path, err)
	}
	found, extra := match(tree, m.Keys())
	var wrong []string
	for _, s := range tree {
		line := m.misfit(s, found[s.Key])
		if line != "" && found[s.Key] == "" && len(wrong) < listed {
			line += suggest.Near(s.Key, extra)
		}
		if line != "" {
			wrong = append(wrong, line)
		}
	}
	for _, key := range extra {
		wrong = append(wrong, fmt.Sprintf("extra: %s %v", m.spelling(key), m.tensors[key].Shape))
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("load %s: %s%d keys do not fit the model of %d parameters:%s",
			m.path, m.otherFamily(tree), len(wrong), len(tree), list(wrong))
	}
	return found, nil
}

// otherFamily says that the weights are those of another kind of network than the tree's, or of another
// family; "" if they are not or it cannot be told.
func (m *Model) otherFamily(tree nn.Tree) string {
	want, ok := StructureOf(tree)
	got, known := m.Structure()
	if !ok || !known {
		return ""
	}
	a, b := got.describe(), want.describe()
	if a == b {
		return ""
	}
	return fmt.Sprintf("this is %s, the run wants %s: ", a, b)
}

// misfit says what is wrong with the tensor that the file has for a parameter; "" if nothing is.
func (m *Model) misfit(s nn.Spec, key string) string {
	t, ok := m.Tensor(key)
	want := s.FileShape()
	name := s.Key
	if in := m.spelling(key); ok && in != s.Key {
		name = fmt.Sprintf("%s (in the file: %s)", s.Key, in)
	}
	switch {
	case !ok:
		return fmt.Sprintf("missing: %s %v", s.Key, want)
	case !slices.Equal(t.Shape, want) && !isOldAttention(s, t):
		hint := ""
		if got := slices.Clone(t.Shape); len(got) == len(want) {
			slices.Sort(got)
			if slices.Equal(got, slices.Sorted(slices.Values(want))) {
				hint = ": transposed?"
			}
		}
		return fmt.Sprintf("shape: %s: got %v, want %v%s", name, t.Shape, want, hint)
	case s.Kind == nn.Codes && t.DType != codesDType:
		return fmt.Sprintf("dtype: %s: got %s, want %s", name, t.DType, codesDType)
	case s.Kind != nn.Codes && !safetensors.IsFloat(t.DType):
		return fmt.Sprintf("dtype: %s: got %s, want F32, F16, BF16 or F64", name, t.DType)
	}
	return ""
}

// isOldAttention says whether t is a 1×1 convolution for a projection of the VAE's attention, as very
// old files have it: the same numbers in the same order.
func isOldAttention(s nn.Spec, t safetensors.Tensor) bool {
	return s.Kind == nn.Dense && vaeAttention.MatchString(s.Key) && slices.Equal(t.Shape, append(s.FileShape(), 1, 1))
}

// checkTree rejects trees that no file could fit.
func checkTree(tree nn.Tree) error {
	seen := make(map[string]bool, len(tree))
	for _, s := range tree {
		if seen[s.Key] {
			return fmt.Errorf("the model has %s twice", s.Key)
		}
		seen[s.Key] = true
		rank, ok := map[nn.Kind]int{
			nn.Vector: 1, nn.Dense: 2, nn.Kernel: 4, nn.Table: 2, nn.Array: len(s.Shape), nn.Codes: len(s.Shape),
		}[s.Kind]
		if !ok || len(s.Shape) != rank {
			return fmt.Errorf("the model's %v does not have the rank of its kind, %d", s, rank)
		}
	}
	return nil
}

// codesDType is that of nn.Codes.
const codesDType = "U8"

// orderOf is how a parameter's elements stand in memory, in terms of its file shape.
func orderOf(k nn.Kind) safetensors.Order {
	if k == nn.Dense || k == nn.Kernel {
		return safetensors.MemoryOrder
	}
	return safetensors.FileOrder
}
