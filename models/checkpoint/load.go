package checkpoint

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"limner/models/nn"
)

// Load reads every parameter of the tree as float32 in memory's layout. Old spellings of keys are
// accepted (see QUIRKS.md). It fails with one error that lists every key that is missing, extra,
// misshapen or not floating point, with shapes as the file has them.
func (m *Model) Load(tree nn.Tree) (nn.Values, error) {
	if err := checkTree(tree); err != nil {
		return nil, fmt.Errorf("load %s: %w", m.path, err)
	}
	found, extra := match(tree, m.Keys())
	var wrong []string
	for _, s := range tree {
		if line := m.misfit(s, found[s.Key]); line != "" {
			wrong = append(wrong, line)
		}
	}
	for _, key := range extra {
		t, _ := m.Tensor(key)
		wrong = append(wrong, fmt.Sprintf("extra: %s %v", key, t.Shape))
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("load %s: %d keys do not fit the model of %d parameters:\n  %s",
			m.path, len(wrong), len(tree), strings.Join(wrong, "\n  "))
	}

	loaded := make([][]float32, len(tree))
	var group errgroup.Group
	group.SetLimit(min(4, runtime.GOMAXPROCS(0)))
	for i, s := range tree {
		group.Go(func() error {
			t, _ := m.Tensor(found[s.Key])
			values, err := t.Float32s()
			if err != nil {
				return fmt.Errorf("load %s: %s: %w", m.path, s.Key, err)
			}
			loaded[i] = toMemory(s, values)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	values := make(nn.Values, len(tree))
	for i, s := range tree {
		values[s.Key] = loaded[i]
	}
	return values, nil
}

// misfit says what is wrong with the tensor that the file has for a parameter; "" if nothing is.
func (m *Model) misfit(s nn.Spec, key string) string {
	t, ok := m.Tensor(key)
	want := s.FileShape()
	name := s.Key
	if ok && key != s.Key {
		name = fmt.Sprintf("%s (in the file: %s)", s.Key, key)
	}
	switch {
	case !ok:
		return fmt.Sprintf("missing: %s %v", s.Key, want)
	case !slices.Equal(t.Shape, want) && !isOldAttention(s, t):
		return fmt.Sprintf("shape: %s: got %v, want %v", name, t.Shape, want)
	case !isFloat(t.DType):
		return fmt.Sprintf("dtype: %s: got %s, want F32, F16, BF16 or F64", name, t.DType)
	}
	return ""
}

// isOldAttention says whether t is a 1×1 convolution for a projection of the VAE's attention, as very
// old files have it: the same numbers in the same order.
func isOldAttention(s nn.Spec, t Tensor) bool {
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
		rank, ok := map[nn.Kind]int{nn.Vector: 1, nn.Dense: 2, nn.Kernel: 4, nn.Table: 2}[s.Kind]
		if !ok || len(s.Shape) != rank {
			return fmt.Errorf("the model's %v does not have the rank of its kind, %d", s, rank)
		}
	}
	return nil
}
