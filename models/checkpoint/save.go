package checkpoint

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"limner/models/nn"
	"limner/models/safetensors"
)

// SaveModel writes the tree's parameters to dir/name in diffusers' layout, as dtype F32, F16, BF16 or
// F64 and codes as U8, and makes the folder where there is none. Values must hold the tree's keys and no others. One
// parameter at a time is changed to the file's layout, so memory grows by the largest only.
func SaveModel(dir, name string, tree nn.Tree, values nn.Values, dtype string) error {
	return saveModel(dir, name, tree, values, dtype, map[string]string{"format": "pt"})
}

func saveModel(dir, name string, tree nn.Tree, values nn.Values, dtype string, metadata map[string]string) error {
	path := filepath.Join(dir, name)
	entries, err := modelEntries(tree, values, dtype)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return safetensors.Write(path, entries, metadata)
}

// WriteModel writes what SaveModel saves to w, which should be buffered.
func WriteModel(w io.Writer, tree nn.Tree, values nn.Values, dtype string) error {
	return WriteModelWith(w, tree, values, dtype, nil)
}

// WriteModelWith is WriteModel with more in the header's metadata.
func WriteModelWith(w io.Writer, tree nn.Tree, values nn.Values, dtype string, metadata map[string]string) error {
	entries, err := modelEntries(tree, values, dtype)
	if err != nil {
		return err
	}
	all := map[string]string{"format": "pt"}
	maps.Copy(all, metadata)
	return safetensors.WriteTo(w, entries, all)
}

// modelEntries pairs the tree's parameters with their values.
func modelEntries(tree nn.Tree, values nn.Values, dtype string) ([]safetensors.Entry, error) {
	if !safetensors.IsFloat(dtype) {
		return nil, fmt.Errorf("dtype %q: want F32, F16, BF16 or F64", dtype)
	}
	if err := checkTree(tree); err != nil {
		return nil, err
	}
	var wrong []string
	left := maps.Clone(values)
	entries := make([]safetensors.Entry, len(tree))
	var scratch []float32 // for one at a time
	for i, s := range tree {
		v, ok := values[s.Key]
		delete(left, s.Key)
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("missing: %s %v", s.Key, s.Shape))
		case len(v) != s.Size():
			wrong = append(wrong, fmt.Sprintf("size: %s: got %d values, want %d for %v",
				s.Key, len(v), s.Size(), s.Shape))
		}
		as := dtype
		if s.Kind == nn.Codes {
			as = codesDType
		}
		entries[i] = safetensors.Entry{
			Key: s.Key, DType: as, Shape: s.FileShape(), Float32s: func() ([]float32, error) {
				return toFile(s, v, &scratch), nil
			},
		}
	}
	for _, key := range slices.Sorted(maps.Keys(left)) {
		wrong = append(wrong, "extra: "+key)
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%d values do not fit the model of %d parameters:%s", len(wrong), len(tree), list(wrong))
	}
	return entries, nil
}
