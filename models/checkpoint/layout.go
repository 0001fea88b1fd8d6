package checkpoint

import "limner/models/nn"

// block is the side of the squares in which matrices are transposed, so that both the rows read and
// the rows written stay in the first-level cache.
const block = 32

// toMemory changes values from a diffusers file's layout to memory's. It returns its argument where
// the two are the same.
func toMemory(s nn.Spec, file []float32) []float32 {
	switch s.Kind {
	case nn.Dense: // [out, in] → [in, out]
		return swap(file, s.Shape[1], s.Shape[0], 1)
	case nn.Kernel: // [out, in, h·w] → [h·w, in, out]
		return swap(file, s.Shape[3], s.Shape[2], s.Shape[0]*s.Shape[1])
	}
	return file
}

// toFile is the inverse of toMemory.
func toFile(s nn.Spec, memory []float32) []float32 {
	switch s.Kind {
	case nn.Dense: // [in, out] → [out, in]
		return swap(memory, s.Shape[0], s.Shape[1], 1)
	case nn.Kernel: // [h·w, in, out] → [out, in, h·w]
		return swapBack(memory, s.Shape[3], s.Shape[2], s.Shape[0]*s.Shape[1])
	}
	return memory
}

// swap reverses the axes of src [a, b, c]: dst [c, b, a].
func swap(src []float32, a, b, c int) []float32 {
	dst := make([]float32, len(src))
	eachBlock(a, b, func(i0, i1, j0, j1 int) {
		for j := j0; j < j1; j++ {
			for k := range c {
				row := dst[(k*b+j)*a : (k*b+j+1)*a]
				for i := i0; i < i1; i++ {
					row[i] = src[(i*b+j)*c+k]
				}
			}
		}
	})
	return dst
}

// swapBack reverses the axes of src [c, b, a], with the blocks that suit a small c: dst [a, b, c].
func swapBack(src []float32, a, b, c int) []float32 {
	dst := make([]float32, len(src))
	eachBlock(a, b, func(i0, i1, j0, j1 int) {
		for j := j0; j < j1; j++ {
			for k := range c {
				row := src[(k*b+j)*a : (k*b+j+1)*a]
				for i := i0; i < i1; i++ {
					dst[(i*b+j)*c+k] = row[i]
				}
			}
		}
	})
	return dst
}

// eachBlock covers a × b with squares.
func eachBlock(a, b int, visit func(i0, i1, j0, j1 int)) {
	for i := 0; i < a; i += block {
		for j := 0; j < b; j += block {
			visit(i, min(i+block, a), j, min(j+block, b))
		}
	}
}
