package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"

	"limner/models/nn"
)

// Stream checks the model against the tree as Load does, then calls visit with every parameter in the
// tree's order: its elements in memory's layout, little-endian, as dtype F32, F16 or BF16, rounded to
// nearest even. data is valid until visit returns and must not be changed: it is a buffer used again
// for the next parameter, or the mapped file itself where neither dtype nor layout change. Memory grows
// by the largest parameter only. A finite value that F16 cannot hold is an error that names it.
func (m *Model) Stream(tree nn.Tree, dtype string, visit func(spec nn.Spec, data []byte) error) error {
	return m.StreamPart(tree, tree, dtype, visit)
}

// StreamPart checks the model against the tree, then does as Stream for a part of it.
func (m *Model) StreamPart(tree, part nn.Tree, dtype string, visit func(spec nn.Spec, data []byte) error) error {
	if dtype != "F32" && dtype != "F16" && dtype != "BF16" {
		return fmt.Errorf("load %s: dtype %q: want F32, F16 or BF16", m.path, dtype)
	}
	var scratch []byte
	return m.visit(tree, part, func(s nn.Spec, t Tensor) error {
		data, err := t.elements(dtype, orderOf(s.Kind), &scratch)
		if err != nil {
			return fmt.Errorf("load %s: %s: %w", m.path, s.Key, err)
		}
		return visit(s, data)
	})
}

// Sample checks the model against the tree, then calls visit with n elements of every parameter of a part of it, spread evenly over the
// parameter in memory's layout; with all elements of smaller ones. No more of the file is read than what they lie in.
func (m *Model) Sample(tree, part nn.Tree, n int, visit func(spec nn.Spec, elements []float32) error) error {
	return m.visit(tree, part, func(s nn.Spec, t Tensor) error {
		read, err := t.reader()
		if err != nil {
			return fmt.Errorf("load %s: %s: %w", m.path, s.Key, err)
		}
		elements := make([]float32, min(n, s.Size()))
		for i := range elements {
			at := place(sampled(i, len(elements), s.Size()), t.Shape, orderOf(s.Kind))
			read(elements[i:i+1], index(at, t.Shape, t.Order))
		}
		return visit(s, elements)
	})
}

// visit checks the model against the tree and gives the tensors of a part of it.
func (m *Model) visit(tree, part nn.Tree, do func(nn.Spec, Tensor) error) error {
	found, err := m.fit(tree)
	if err != nil {
		return err
	}
	for _, s := range part {
		t, ok := m.tensors[found[s.Key]]
		if !ok {
			return fmt.Errorf("load %s: no parameter %s in the model", m.path, s.Key)
		}
		err := do(s, t)
		t.drop()
		if err != nil {
			return err
		}
	}
	return nil
}

// sampled is where the i-th of n elements lies, which are spread evenly over size.
func sampled(i, n, size int) int { return i * size / n }

// drop lets go of the pages of the file that hold the tensor.
func (t Tensor) drop() {
	if t.mapped {
		dropPages(t.Data)
	}
}

// elements returns the tensor's elements in a dtype of floating point and an order: Data itself where
// it has them so, else in scratch, which grows as needed.
func (t Tensor) elements(dtype string, order Order, scratch *[]byte) ([]byte, error) {
	if t.DType == dtype && (t.Order == order || sameOrder(t.Shape)) {
		return t.Data, nil
	}
	if err := t.checkSize(); err != nil {
		return nil, err
	}
	width := dtypes[dtype].bits / 8
	size := t.Size() * width
	if cap(*scratch) < size {
		*scratch = make([]byte, size)
	}
	buf := (*scratch)[:size]
	if t.DType == dtype && width == 2 { // bits that only move
		return buf, copyElements(t.Shape, t.Order, order,
			func(dst []uint16, at int) { decode16(dst, t.Data[2*at:]) },
			func(at int, src []uint16) error { encode16(buf[2*at:], src); return nil })
	}
	read, err := t.reader()
	if err != nil {
		return nil, err
	}
	err = copyElements(t.Shape, t.Order, order, read, func(at int, src []float32) error {
		if i := encode(buf[at*width:], dtype, src); i >= 0 {
			return overflow(at+i, t.Shape, order, dtype, src[i])
		}
		return nil
	})
	return buf, err
}

func decode16(dst []uint16, b []byte) {
	b = b[:2*len(dst)]
	for i := range dst {
		dst[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
}

func encode16(b []byte, src []uint16) {
	b = b[:2*len(src)]
	for i, v := range src {
		binary.LittleEndian.PutUint16(b[2*i:], v)
	}
}

// overflow says that the value at i, in a tensor of that file shape and order, is none of F16 or U8.
func overflow(i int, shape []int, order Order, dtype string, value float32) error {
	if dtype == codesDType {
		return fmt.Errorf("element %v is %g, which U8 cannot hold: want a whole number from 0 to 255", place(i, shape, order), value)
	}
	return fmt.Errorf("element %v is %g, which F16 cannot hold: its largest value is 65504; use BF16 or F32", place(i, shape, order), value)
}

// place is the position in a tensor of file shape of the element that stands at i in an order.
func place(i int, shape []int, order Order) []int {
	axes := order.axes(len(shape))
	at := make([]int, len(shape))
	for k := len(axes) - 1; k >= 0; k-- {
		d := max(1, shape[axes[k]])
		at[axes[k]] = i % d
		i /= d
	}
	return at
}

// index is the inverse of place.
func index(at, shape []int, order Order) (i int) {
	for _, axis := range order.axes(len(shape)) {
		i = i*shape[axis] + at[axis]
	}
	return i
}

// axes are those of a file shape of that rank, from the one along which neighbours lie farthest apart.
func (o Order) axes(rank int) []int {
	if o == MemoryOrder && rank == 2 {
		return []int{1, 0}
	} else if o == MemoryOrder && rank == 4 {
		return []int{2, 3, 1, 0}
	}
	axes := make([]int, rank)
	for k := range axes {
		axes[k] = k
	}
	return axes
}

// reader returns how to decode a tensor of floating point or of codes.
func (t Tensor) reader() (reader[float32], error) {
	if err := t.checkSize(); err != nil {
		return nil, err
	}
	le, b := binary.LittleEndian, t.Data
	switch t.DType {
	case "F32":
		return func(dst []float32, at int) {
			src := b[4*at : 4*(at+len(dst))]
			for i := range dst {
				dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
			}
		}, nil
	case "F16":
		return func(dst []float32, at int) {
			src := b[2*at : 2*(at+len(dst))]
			for i := range dst {
				h := uint32(le.Uint16(src[2*i:]))
				if h&0x7c00 == 0x7c00 { // infinity and NaN
					dst[i] = float16ToFloat32(uint16(h))
					continue
				}
				// The exponent is rebiased by a multiplication, which sets subnormal numbers right too.
				f := math.Float32frombits(h&0x7fff<<13) * 0x1p112
				dst[i] = math.Float32frombits(math.Float32bits(f) | h&0x8000<<16)
			}
		}, nil
	case "BF16":
		return func(dst []float32, at int) {
			src := b[2*at : 2*(at+len(dst))]
			for i := range dst {
				dst[i] = math.Float32frombits(uint32(le.Uint16(src[2*i:])) << 16)
			}
		}, nil
	case codesDType:
		return func(dst []float32, at int) {
			for i, code := range b[at : at+len(dst)] {
				dst[i] = float32(code)
			}
		}, nil
	case "F64":
		return func(dst []float32, at int) {
			src := b[8*at : 8*(at+len(dst))]
			for i := range dst {
				dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
			}
		}, nil
	}
	return nil, fmt.Errorf("got %s, want F32, F16, BF16, F64 or U8", t.DType)
}

// encode puts values into b in a dtype of floating point, rounded to nearest even, or as codes. It returns the
// index of the first finite value that becomes infinite in F16 or is no code, and -1 if there is none.
func encode(b []byte, dtype string, values []float32) int {
	le := binary.LittleEndian
	switch dtype {
	case "F32":
		for i, v := range values {
			le.PutUint32(b[4*i:], math.Float32bits(v))
		}
	case "F16":
		for i, v := range values {
			bits := math.Float32bits(v)
			if r := bits & 0x7fffffff; r-0x38800000 < 0x477ff000-0x38800000 { // normal, and below what rounds to 2^16
				r -= (127 - 15) << 23
				le.PutUint16(b[2*i:], uint16(bits>>16&0x8000|(r+0xfff+r>>13&1)>>13))
				continue
			}
			h := float32ToFloat16(v)
			if h&0x7fff == 0x7c00 && !math.IsInf(float64(v), 0) {
				return i
			}
			le.PutUint16(b[2*i:], h)
		}
	case "BF16":
		for i, v := range values {
			le.PutUint16(b[2*i:], BFloat16Bits(v))
		}
	case codesDType:
		for i, v := range values {
			if !(v >= 0 && v <= 255) || v != float32(uint8(v)) {
				return i
			}
			b[i] = uint8(v)
		}
	case "F64":
		for i, v := range values {
			le.PutUint64(b[8*i:], math.Float64bits(float64(v)))
		}
	}
	return -1
}
