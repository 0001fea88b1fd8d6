package checkpoint

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

func TestFloat16(t *testing.T) {
	for h := range 1 << 16 { // every value survives the way to float32 and back
		f := float16ToFloat32(uint16(h))
		if got := float32ToFloat16(f); got != uint16(h) {
			t.Fatalf("%#04x became %v, then %#04x", h, f, got)
		}
	}
	for _, c := range []struct {
		in   float32
		want uint16
	}{
		{1, 0x3c00}, {-2, 0xc000}, {65504, 0x7bff}, {65519.996, 0x7bff}, {65520, 0x7c00}, {1e9, 0x7c00}, {-1e9, 0xfc00},
		{1 + 0x1p-11, 0x3c00}, {1 + 3*0x1p-11, 0x3c02}, {1 + 0x1p-11 + 0x1p-23, 0x3c01}, // ties to even
		{0x1p-24, 1}, {0x1p-25, 0}, {0x1.8p-24, 2}, {0x1.000002p-25, 1}, {0x1p-14, 0x400}, {0x1p-14 - 0x1p-26, 0x400},
		{float32(math.Copysign(0, -1)), 0x8000}, {float32(math.Inf(1)), 0x7c00},
	} {
		if got := float32ToFloat16(c.in); got != c.want {
			t.Errorf("%v: got %#04x, want %#04x", c.in, got, c.want)
		}
	}
	if got := float32ToFloat16(math.Float32frombits(0x7f800001)); got&0x7c00 != 0x7c00 || got&0x3ff == 0 {
		t.Errorf("NaN became %#04x", got)
	}
}

func TestBFloat16(t *testing.T) {
	for h := range 1 << 16 {
		f := math.Float32frombits(uint32(h) << 16)
		if got := BFloat16Bits(f); got != uint16(h) {
			t.Fatalf("%#04x became %v, then %#04x", h, f, got)
		}
	}
	for _, c := range []struct{ in, want uint32 }{
		{0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, // ties to even
		{0x7f7fffff, 0x7f80}, {0x7f800001, 0x7fc0}, // to infinity; NaN stays NaN
	} {
		if got := BFloat16Bits(math.Float32frombits(c.in)); got != uint16(c.want) {
			t.Errorf("%#08x: got %#04x, want %#04x", c.in, got, c.want)
		}
	}
}

func TestConversions(t *testing.T) {
	le := binary.LittleEndian
	minus := func(bits int) []byte { // -2 as two's complement
		return le.AppendUint64(nil, math.MaxUint64-1)[:bits/8]
	}
	for _, c := range []struct {
		dtype string
		data  []byte
		float []float32
		ints  []int64 // nil: an error
	}{
		{"F64", le.AppendUint64(nil, math.Float64bits(0.1)), []float32{0.1}, nil},
		{"F32", le.AppendUint32(nil, math.Float32bits(-7)), []float32{-7}, nil},
		{"F16", []byte{0, 0x3c}, []float32{1}, nil},
		{"BF16", []byte{0x80, 0x3f}, []float32{1}, nil},
		{"I64", minus(64), []float32{-2}, []int64{-2}},
		{"I32", minus(32), []float32{-2}, []int64{-2}},
		{"I16", minus(16), []float32{-2}, []int64{-2}},
		{"I8", minus(8), []float32{-2}, []int64{-2}},
		{"U64", minus(64), []float32{math.MaxUint64}, nil},
		{"U64", []byte{7, 0, 0, 0, 0, 0, 0, 0}, []float32{7}, []int64{7}},
		{"U32", minus(32), []float32{math.MaxUint32 - 1}, []int64{math.MaxUint32 - 1}},
		{"U16", minus(16), []float32{65534}, []int64{65534}},
		{"U8", []byte{200}, []float32{200}, []int64{200}},
		{"BOOL", []byte{1}, []float32{1}, []int64{1}},
		{"F8_E4M3", []byte{1}, nil, nil},
		{"C64", make([]byte, 8), nil, nil},
		{"F32", make([]byte, 3), nil, nil},
	} {
		tensor := Tensor{DType: c.dtype, Shape: []int{1}, Data: c.data}
		if got, err := tensor.Float32s(); !slices.Equal(got, c.float) || (err == nil) != (c.float != nil) {
			t.Errorf("%s %v: got %v, %v, want %v", c.dtype, c.data, got, err, c.float)
		}
		if got, err := tensor.Int64s(); !slices.Equal(got, c.ints) || (err == nil) != (c.ints != nil) {
			t.Errorf("%s %v: got %v, %v, want %v", c.dtype, c.data, got, err, c.ints)
		}
	}
}
