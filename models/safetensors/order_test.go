package safetensors

import "testing"

// contentOf are the elements of a tensor.
func contentOf(t testing.TB, tensor Tensor) []byte {
	t.Helper()
	data, err := tensor.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// BenchmarkKernel is a 3×3 convolution of SDXL, from a file of float16 to float32 in memory's layout.
func BenchmarkKernel(b *testing.B) {
	t := Tensor{DType: "F16", Shape: []int{1280, 1280, 3, 3}, data: make([]byte, 2*9*1280*1280)}
	b.SetBytes(int64(2 * len(t.data)))
	var scratch []byte
	for b.Loop() {
		if _, err := t.Elements("F32", MemoryOrder, &scratch); err != nil {
			b.Fatal(err)
		}
	}
}
