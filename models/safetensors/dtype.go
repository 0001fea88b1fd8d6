package safetensors

import (
	"encoding/binary"
	"fmt"
)

// dtype is an element type of the format.
type dtype struct {
	bits int
	rank int // tensors are written in descending rank, which is the reference writer's order
}

// dtypes has every element type of safetensors 0.8.
var dtypes = map[string]dtype{
	"BOOL": {8, 0}, "F4": {4, 1}, "F6_E2M3": {6, 2}, "F6_E3M2": {6, 3}, "U8": {8, 4}, "I8": {8, 5},
	"F8_E5M2": {8, 6}, "F8_E4M3": {8, 7}, "F8_E8M0": {8, 8}, "F8_E4M3FNUZ": {8, 9}, "F8_E5M2FNUZ": {8, 10},
	"I16": {16, 11}, "U16": {16, 12}, "F16": {16, 13}, "BF16": {16, 14},
	"I32": {32, 15}, "U32": {32, 16}, "F32": {32, 17},
	"C64": {64, 18}, "F64": {64, 19}, "I64": {64, 20}, "U64": {64, 21},
}

// IsFloat says whether weights are stored in this dtype.
func IsFloat(dtype string) bool {
	switch dtype {
	case "F64", "F32", "F16", "BF16":
		return true
	}
	return false
}

// Size is the number of elements.
func (t Tensor) Size() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// CheckSize fails unless there are as many bytes as DType and Shape ask for, as in every tensor of a File.
func (t Tensor) CheckSize() error {
	want, err := ByteSize(t.DType, t.Shape)
	if err == nil && uint64(t.bytes()) != want {
		err = fmt.Errorf("got %d bytes, want %d for %s %v", t.bytes(), want, t.DType, t.Shape)
	}
	return err
}

// Float32s copies the elements into a new slice, rounded to float32. It fails on the dtypes of 4, 6
// and 8 bits that hold floating point, and on complex numbers.
func (t Tensor) Float32s() ([]float32, error) {
	if err := t.CheckSize(); err != nil {
		return nil, err
	}
	if _, ok := moved[t.DType]; ok {
		return t.InOrder(t.Order)
	}
	data, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	dst := make([]float32, t.Size())
	if t.DType == "U64" {
		for i := range dst {
			dst[i] = float32(binary.LittleEndian.Uint64(data[8*i:]))
		}
		return dst, nil
	}
	at, err := int64At(t.DType, data)
	if err != nil {
		return nil, fmt.Errorf("dtype %s cannot be read as float32", t.DType)
	}
	for i := range dst {
		dst[i] = float32(at(i))
	}
	return dst, nil
}

// Int64s copies whole numbers into a new slice; false is 0 and true is 1. It fails on floating point,
// and on a U64 above the largest int64.
func (t Tensor) Int64s() ([]int64, error) {
	if err := t.CheckSize(); err != nil {
		return nil, err
	}
	data, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	at, err := int64At(t.DType, data)
	if err != nil {
		return nil, err
	}
	out := make([]int64, t.Size())
	for i := range out {
		if out[i] = at(i); out[i] < 0 && t.DType == "U64" {
			return nil, fmt.Errorf("element %d is %d, which int64 cannot hold", i, uint64(out[i]))
		}
	}
	return out, nil
}

// int64At returns how to read element i of a dtype of whole numbers.
func int64At(dtype string, b []byte) (func(i int) int64, error) {
	le := binary.LittleEndian
	switch dtype {
	case "I64", "U64":
		return func(i int) int64 { return int64(le.Uint64(b[8*i:])) }, nil
	case "I32":
		return func(i int) int64 { return int64(int32(le.Uint32(b[4*i:]))) }, nil
	case "U32":
		return func(i int) int64 { return int64(le.Uint32(b[4*i:])) }, nil
	case "I16":
		return func(i int) int64 { return int64(int16(le.Uint16(b[2*i:]))) }, nil
	case "U16":
		return func(i int) int64 { return int64(le.Uint16(b[2*i:])) }, nil
	case "I8":
		return func(i int) int64 { return int64(int8(b[i])) }, nil
	case "U8", "BOOL":
		return func(i int) int64 { return int64(b[i]) }, nil
	}
	return nil, fmt.Errorf("dtype %s holds no whole numbers", dtype)
}
