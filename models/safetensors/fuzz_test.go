package safetensors

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzSafetensors checks that no bytes crash the reader, and that what it accepts is whole and stays the
// same when it is written and read again.
func FuzzSafetensors(f *testing.F) {
	for _, c := range malformed {
		f.Add(c.data)
	}
	f.Add(raw(`{"__metadata__":{"format":"pt"},`+entry("a", "F16", "[2,2]", 0, 8)+`,`+entry("b", "I64", "[1]", 8, 16)+`}`, 16))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		var entries []Entry
		for _, key := range file.Keys() {
			tensor, _ := file.Tensor(key)
			if IsFloat(tensor.DType) {
				if _, err := tensor.Float32s(); err != nil {
					t.Fatal(err)
				}
			}
			_, _ = tensor.Int64s()
			entries = append(entries, Entry{
				Key: key, DType: tensor.DType, Shape: tensor.Shape, Data: contentOf(t, tensor),
			})
		}
		var b bytes.Buffer
		if err := WriteTo(&b, entries, file.Metadata()); err != nil {
			t.Fatal(err)
		}
		again, err := parse(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(again.Keys(), file.Keys()) {
			t.Fatalf("got keys %q, want %q", again.Keys(), file.Keys())
		}
		for _, e := range entries {
			if got, _ := again.Tensor(e.Key); string(contentOf(t, got)) != string(e.Data) {
				t.Fatalf("%q changed", e.Key)
			}
		}
	})
}
