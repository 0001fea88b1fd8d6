package safetensors

// #cgo CFLAGS: -O3
// #include "move.h"
import "C"

import (
	"cmp"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sync/errgroup"
)

const (
	tileRows     = 128     // of a matrix in one part of the work, as in a tile of move.c
	run          = 1 << 13 // elements in one part of the work if the order stays
	parallelFrom = 1 << 16 // elements from which the work is spread over cores
)

// SameOrder says whether the two orders are the same for a shape.
func SameOrder(shape []int) bool {
	long := 0
	for _, d := range shape {
		if d > 1 {
			long++
		}
	}
	return len(shape) != 2 && len(shape) != 4 || long < 2
}

// moved are the dtypes whose elements can be converted.
var moved = map[string]C.int{"F32": C.f32, "F16": C.f16, "BF16": C.bf16, "F64": C.f64, "U8": C.u8}

// MoveTo writes the tensor's elements into to, which must have their size, in a dtype and an order. They pass through
// float32, rounded to nearest even. It fails for a finite value that F16 cannot hold, and for one that is not a whole
// number of U8.
func (t Tensor) MoveTo(to []byte, dtype string, order Order) error {
	if err := t.CheckSize(); err != nil {
		return err
	}
	size := t.Size()
	from, ok := moved[t.DType]
	if !ok {
		return fmt.Errorf("got %s, want F32, F16, BF16, F64 or U8", t.DType)
	}
	if want := size * dtypes[dtype].bits / 8; len(to) != want {
		return fmt.Errorf("%d bytes for %d elements of %s, want %d", len(to), size, dtype, want)
	}
	into, same := moved[dtype], t.Order == order || SameOrder(t.Shape)
	if size == 0 || same && t.DType == dtype {
		return t.read(to, 0)
	}
	if t.DType == dtype && dtypes[dtype].bits == 16 {
		from, into = C.bits16, C.bits16
	}
	turn, out, in, area, step := C.int(C.same_order), size, 1, 1, run
	if !same { // in file order a matrix [out, in·area]
		turn, out, in, step = C.to_memory, t.Shape[0], t.Shape[1], tileRows
		if order == FileOrder {
			turn = C.to_file
		}
		for _, d := range t.Shape[2:] {
			area *= d
		}
	}
	row := t.bytes() / int64(out) // bytes of the source that are moved together
	if turn == C.to_file {        // from all over it
		data, err := t.Bytes()
		if err != nil {
			return err
		}
		t.data, t.from = data, section{}
	}
	return spread(out, step, size, func(begin, end int) error {
		first, last := begin, end
		if turn == C.to_file {
			first, last = 0, out
		}
		return t.withBytes(int64(first)*row, int64(last-first)*row, func(data []byte) error {
			at := int(C.limner_move(unsafe.Pointer(&to[0]), into, unsafe.Pointer(&data[0]), from,
				C.long(out), C.long(in), C.long(area), turn, C.long(begin), C.long(end), C.long(first)))
			if at < 0 {
				return nil
			}
			place := place(at, t.Shape, order)
			value, err := t.at(index(place, t.Shape, t.Order))
			return cmp.Or(err, overflow(place, dtype, value))
		})
	})
}

// at is element i of Bytes, of a dtype that MoveTo takes.
func (t Tensor) at(i int) (value float32, err error) {
	width := int64(dtypes[t.DType].bits / 8)
	err = t.withBytes(int64(i)*width, width, func(data []byte) error {
		C.limner_move(unsafe.Pointer(&value), C.f32, unsafe.Pointer(&data[0]), moved[t.DType],
			1, 1, 1, C.same_order, 0, 1, 0)
		return nil
	})
	return value, err
}

// overflow is the error for a value that F16 or U8 cannot hold, at a place in the file shape.
func overflow(place []int, dtype string, value float32) error {
	if dtype == "U8" {
		return fmt.Errorf("element %v is %g, which U8 cannot hold: want a whole number from 0 to 255", place, value)
	}
	return fmt.Errorf("element %v is %g, which F16 cannot hold: its largest value is 65504; use BF16 or F32",
		place, value)
}

// Floats is a tensor of F32 that shares the values' memory.
func Floats(shape []int, values []float32, order Order) Tensor {
	return Tensor{DType: "F32", Shape: shape, data: BytesOf(values), Order: order}
}

// BytesOf returns the values' memory as bytes.
func BytesOf(values []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), 4*len(values))
}

// InOrder returns the tensor's elements in an order as float32.
func (t Tensor) InOrder(order Order) ([]float32, error) {
	values := make([]float32, t.Size())
	return values, t.MoveTo(BytesOf(values), "F32", order)
}

// spread calls do with parts of [0, n), each beginning at a multiple of step, on all cores where the
// tensor is large.
func spread(n, step, size int, do func(i0, i1 int) error) error {
	workers := runtime.GOMAXPROCS(0)
	if size < parallelFrom || workers == 1 {
		return do(0, n)
	}
	part := max(1, n/(4*workers*step)) * step
	var next atomic.Int64
	var group errgroup.Group
	for range workers {
		group.Go(func() error {
			for {
				i := int(next.Add(int64(part))) - part
				if i >= n {
					return nil
				}
				if err := do(i, min(i+part, n)); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}
