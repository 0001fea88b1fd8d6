package checkpoint_test

import (
	"encoding/binary"
	"math"
	"reflect"
	"strings"
	"testing"

	"limner/models/checkpoint"
	"limner/models/nn"
)

func TestInMemory(t *testing.T) {
	tree := nn.Tree{{Key: "b", Shape: []int{2}}, {Key: "a", Shape: []int{1}}}
	values := checkpoint.InMemory{"a": {3}, "b": {1, -2}}
	for dtype, size := range map[string]int{"F32": 4, "BF16": 2, "F16": 2} {
		var keys []string
		err := values.Stream(tree, dtype, func(s nn.Spec, write func(to []byte) error) error {
			keys = append(keys, s.Key)
			data := make([]byte, size*s.Size())
			if err := write(data); err != nil {
				return err
			}
			if dtype == "F32" {
				if got := math.Float32frombits(binary.LittleEndian.Uint32(data)); got != values[s.Key][0] {
					t.Errorf("%s: got %g", s.Key, got)
				}
			}
			return nil
		})
		if err != nil || strings.Join(keys, " ") != "b a" {
			t.Errorf("%s: keys %v, %v", dtype, keys, err)
		}
	}
	if got, err := checkpoint.Collect(values, tree); err != nil || !reflect.DeepEqual(got, nn.Values(values)) {
		t.Errorf("collected %v, %v", got, err)
	}
	if err := values.Sample(tree, 1, func(s nn.Spec, elements []float32) error {
		if len(elements) != 1 || elements[0] != values[s.Key][0] {
			t.Errorf("%s: sampled %v", s.Key, elements)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	none := func(nn.Spec, func(to []byte) error) error { return nil }
	for want, c := range map[string]struct {
		tree  nn.Tree
		dtype string
	}{
		"no values for parameter c": {nn.Tree{{Key: "c", Shape: []int{1}}}, "F32"},
		"got 2 values, want 3":      {nn.Tree{{Key: "b", Shape: []int{3}}}, "F32"},
		`dtype "I8"`:                {tree, "I8"},
	} {
		if err := values.Stream(c.tree, c.dtype, none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	short := func(_ nn.Spec, write func(to []byte) error) error { return write(make([]byte, 7)) }
	if err := values.Stream(tree, "F32", short); err == nil ||
		err.Error() != "parameter b: 7 bytes for 2 elements of F32, want 8" {
		t.Errorf("too little room: got %v", err)
	}
}
