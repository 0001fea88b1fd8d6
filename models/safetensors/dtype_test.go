package safetensors

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// all16 are all numbers of a dtype of 16 bits.
func all16(t *testing.T, dtype string) []float32 {
	t.Helper()
	var data []byte
	for h := range 1 << 16 {
		data = binary.LittleEndian.AppendUint16(data, uint16(h))
	}
	values, err := Tensor{DType: dtype, Shape: []int{1 << 16}, data: data}.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Encode(values, dtype)
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("%s, %v: not the same after the way to float32 and back", dtype, err)
	}
	return values
}

// encodeOne encodes a number alone and among others, which is done with vector instructions.
func encodeOne(t *testing.T, f float32, dtype string) (uint16, error) {
	t.Helper()
	one, err := Encode([]float32{f}, dtype)
	many, failed := Encode(slices.Repeat([]float32{f}, 67), dtype)
	if (err == nil) != (failed == nil) {
		t.Errorf("%v: %v alone, %v among others", f, err, failed)
	} else if err != nil {
		return 0, err
	} else if !bytes.Equal(many, bytes.Repeat(one, 67)) {
		t.Errorf("%v to %s: %v alone, %v among others", f, dtype, one, many)
	}
	return binary.LittleEndian.Uint16(one), nil
}

func TestFloat16(t *testing.T) {
	for h, got := range all16(t, "F16") {
		want := math.Ldexp(float64(1024+h&0x3ff), h>>10&0x1f-25)
		switch h >> 10 & 0x1f {
		case 0:
			want = math.Ldexp(float64(h&0x3ff), -24)
		case 0x1f:
			want = math.Inf(1)
		}
		if h&0x8000 != 0 {
			want = -want
		}
		if nan := h&0x7fff > 0x7c00; nan != math.IsNaN(float64(got)) ||
			!nan && (float64(got) != want || math.Signbit(float64(got)) != (h&0x8000 != 0)) {
			t.Fatalf("%#04x became %v, want %v", h, got, want)
		}
	}
	for _, c := range []struct {
		in   float32
		want uint16
	}{
		{1, 0x3c00}, {-2, 0xc000}, {65504, 0x7bff}, {65519.996, 0x7bff},
		{1 + 0x1p-11, 0x3c00}, {1 + 3*0x1p-11, 0x3c02}, {1 + 0x1p-11 + 0x1p-23, 0x3c01}, // ties to even
		{0x1p-24, 1}, {0x1p-25, 0}, {0x1.8p-24, 2}, {0x1.000002p-25, 1}, {0x1p-14, 0x400},
		{0x1p-14 - 0x1p-26, 0x400}, {0x1p-149, 0}, {float32(math.Copysign(0, -1)), 0x8000},
		{float32(math.Inf(1)), 0x7c00}, {float32(math.Inf(-1)), 0xfc00}, {math.Float32frombits(0x7f800001), 0x7e00},
		{math.Float32frombits(0xffc12345), 0xfe09}, // NaN
	} {
		if got, err := encodeOne(t, c.in, "F16"); got != c.want || err != nil {
			t.Errorf("%v: got %#04x, %v, want %#04x", c.in, got, err, c.want)
		}
	}
	for _, f := range []float32{65520, -65520, 65536, 1e9, -1e9, math.MaxFloat32} {
		if _, err := encodeOne(t, f, "F16"); err == nil || !strings.Contains(err.Error(), "element [0] is ") {
			t.Errorf("%v: got %v", f, err)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var values, want []float32
	for len(values) < 10_000 {
		f := math.Float32frombits(rng.Uint32())
		if size := math.Abs(float64(f)); size < 65520 {
			place := math.Ldexp(1, max(math.Ilogb(size), -14)-10) // of the last digit
			values, want = append(values, f), append(want, float32(math.RoundToEven(float64(f)/place)*place))
		}
	}
	data, err := Encode(values, "F16")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (Tensor{DType: "F16", Shape: []int{len(values)}, data: data}).Float32s(); err != nil ||
		!slices.Equal(got, want) {
		t.Errorf("random numbers, %v: not rounded to nearest even", err)
	}
}

func TestBFloat16(t *testing.T) {
	for h, got := range all16(t, "BF16") {
		if math.Float32bits(got) != uint32(h)<<16 {
			t.Fatalf("%#04x became %v", h, got)
		}
	}
	for _, c := range []struct{ in, want uint32 }{
		{0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, // ties to even
		{0x7f7fffff, 0x7f80}, {0x7f800001, 0x7fc0}, {0xff800001, 0xffc0}, // to infinity; NaN stays NaN
	} {
		if got, err := encodeOne(t, math.Float32frombits(c.in), "BF16"); got != uint16(c.want) || err != nil {
			t.Errorf("%#08x: got %#04x, %v, want %#04x", c.in, got, err, c.want)
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
		tensor := Tensor{DType: c.dtype, Shape: []int{1}, data: c.data}
		if got, err := tensor.Float32s(); !slices.Equal(got, c.float) || (err == nil) != (c.float != nil) {
			t.Errorf("%s %v: got %v, %v, want %v", c.dtype, c.data, got, err, c.float)
		}
		if got, err := tensor.Int64s(); !slices.Equal(got, c.ints) || (err == nil) != (c.ints != nil) {
			t.Errorf("%s %v: got %v, %v, want %v", c.dtype, c.data, got, err, c.ints)
		}
	}
}
