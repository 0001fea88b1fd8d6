package golden

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"testing"
)

// Tensor is a tensor of a safetensors file, in the file's layout.
type Tensor struct {
	Dtype string
	Shape []int
	Data  []byte
}

// Tensors reads a safetensors file that is known to be valid.
func Tensors(t testing.TB, path string) map[string]Tensor {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := binary.LittleEndian.Uint64(raw)
	var header map[string]struct {
		Dtype   string
		Shape   []int
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.NewDecoder(bytes.NewReader(raw[8 : 8+size])).Decode(&header); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	out := map[string]Tensor{}
	for key, h := range header {
		if key != "__metadata__" {
			out[key] = Tensor{Dtype: h.Dtype, Shape: h.Shape, Data: raw[8+size:][h.Offsets[0]:h.Offsets[1]]}
		}
	}
	return out
}
