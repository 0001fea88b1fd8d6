package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// raw is a file with this header and size bytes of data.
func raw(header string, size int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, size)...)
}

// entry is one tensor of a header.
func entry(key, dtype, shape string, begin, end int) string {
	return fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, key, dtype, shape, begin, end)
}

var malformed = []struct {
	name string
	data []byte
	want string // part of the error
}{
	{"empty", nil, "got 0 bytes, want at least 8"},
	{"seven bytes", make([]byte, 7), "got 7 bytes, want at least 8"},
	{"zero header", make([]byte, 8), "not JSON"},
	{"header above the limit", binary.LittleEndian.AppendUint64(nil, 100_000_001), "limit of 100000000"},
	{"header of 2^64-1", []byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"), "limit of 100000000"},
	{"cut in the header", raw(`{"a":1}`, 0)[:12], "truncated in the header: got 12 bytes, want at least 15"},
	{"html", []byte("<!DOCTYPE html>"), "limit of 100000000"},
	{"not UTF-8", raw("{\"\xff\":1}", 0), "not UTF-8"},
	{"not JSON", raw(`{"a":`, 0), "not JSON"},
	{"trailing comma", raw(`{`+entry("a", "U8", "[1]", 0, 1)+`,}`, 1), "not JSON"},
	{"two values", raw(`{} {}`, 0), "not JSON"},
	{"padding of zero bytes", raw("{}\x00", 0), "not JSON"},
	{"an array", raw(`[]`, 0), "want an object"},
	{"null", raw(`null`, 0), "want an object"},
	{"tensor is a number", raw(`{"a":1}`, 0), `"a": got 1, want an object`},
	{"no dtype", raw(`{"a":{"shape":[1],"data_offsets":[0,1]}}`, 1), "dtype is missing"},
	{"no shape", raw(`{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1), "shape is missing"},
	{"no offsets", raw(`{"a":{"dtype":"U8","shape":[1]}}`, 1), "data_offsets is missing"},
	{"unknown dtype", raw(`{`+entry("a", "F31", "[1]", 0, 4)+`}`, 4), `"F31", which the format does not know`},
	{"lower-case dtype", raw(`{`+entry("a", "f32", "[1]", 0, 4)+`}`, 4), `"f32", which the format does not know`},
	{"dtype is a number", raw(`{"a":{"dtype":3,"shape":[1],"data_offsets":[0,1]}}`, 1), "is no string"},
	{"negative dimension", raw(`{`+entry("a", "U8", "[-1]", 0, 1)+`}`, 1), "holds -1"},
	{"fractional dimension", raw(`{`+entry("a", "U8", "[1.0]", 0, 1)+`}`, 1), "holds 1.0"},
	{"exponent", raw(`{`+entry("a", "U8", "[1e0]", 0, 1)+`}`, 1), "holds 1e0"},
	{"shape is text", raw(`{`+entry("a", "U8", `["1"]`, 0, 1)+`}`, 1), "want whole numbers"},
	{"shape is null", raw(`{`+entry("a", "U8", `null`, 0, 1)+`}`, 1), "is null"},
	{"dimension above int64", raw(`{`+entry("a", "U8", "[9223372036854775808]", 0, 1)+`}`, 1), "too large"},
	{"three offsets", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`, 1), "has 3 numbers, want 2"},
	{"100,001 dimensions", raw(`{`+entry("a", "U8", "["+strings.Repeat("1,", 100_000)+"1]", 0, 1)+`}`, 1), `"a": "shape": has more than 64 numbers`},
	{"shape overflows", raw(`{`+entry("a", "U8", "[4294967296,4294967296,4294967296]", 0, 1)+`}`, 1), "overflows"},
	{"bits overflow", raw(`{`+entry("a", "F32", "[4611686018427387904]", 0, 4)+`}`, 4), "overflows"},
	{"half a byte", raw(`{`+entry("a", "F4", "[3]", 0, 1)+`}`, 1), "does not end at a whole byte"},
	{"too few bytes", raw(`{`+entry("a", "F32", "[2]", 0, 4)+`}`, 4), "got 4 bytes, want 8"},
	{"end before start", raw(`{`+entry("a", "U8", "[1]", 1, 0)+`}`, 1), "before its start"},
	{"hole at the start", raw(`{`+entry("a", "U8", "[1]", 1, 2)+`}`, 2), "hole from 0"},
	{"hole in the middle", raw(`{`+entry("a", "U8", "[1]", 0, 1)+`,`+entry("b", "U8", "[1]", 2, 3)+`}`, 3),
		"hole from 1"},
	{"overlap", raw(`{`+entry("a", "U8", "[2]", 0, 2)+`,`+entry("b", "U8", "[2]", 1, 3)+`}`, 3),
		"inside the one before"},
	{"same bytes twice", raw(`{`+entry("a", "U8", "[2]", 0, 2)+`,`+entry("b", "U8", "[2]", 0, 2)+`}`, 2),
		"inside the one before"},
	{"truncated data", raw(`{`+entry("a", "F32", "[4]", 0, 16)+`}`, 15), "truncated: got "},
	{"longer data", raw(`{`+entry("a", "U8", "[1]", 0, 1)+`}`, 3), "2 bytes after the last tensor"},
	{"data without tensors", raw(`{}`, 1), "1 bytes after the last tensor"},
	{"key twice", raw(`{`+entry("a", "U8", "[1]", 0, 1)+`,`+entry("a", "U8", "[1]", 1, 2)+`}`, 2),
		`"a": appears twice`},
	{"escaped key twice", raw(`{`+entry("a", "U8", "[1]", 0, 1)+`,"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `"a": appears twice`},
	{"field twice", raw(`{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), `"dtype": appears twice`},
	{"metadata twice", raw(`{"__metadata__":{},"__metadata__":{}}`, 0), "appears twice"},
	{"metadata is a number", raw(`{"__metadata__":{"a":1}}`, 0), "want a string"},
	{"metadata is an array", raw(`{"__metadata__":[]}`, 0), "want an object"},
	{"lone surrogate", raw(`{"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "surrogate"},
	{"surrogates reversed", raw(`{"__metadata__":{"\udc00\ud800":""}}`, 0), "surrogate"},
}

func TestMalformed(t *testing.T) {
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.safetensors")
			if err := os.WriteFile(path, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if err == nil {
				f.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %q, want the path and %q", err, c.want)
			}
		})
	}
}

// unusual are files that look odd and are valid. Keys of nil are not compared.
var unusual = []struct {
	name string
	data []byte
	keys []string
}{
	{"no tensors", raw(`{}`, 0), nil},
	{"padded", raw("  {}\n\t ", 0), nil},
	{"null metadata", raw(`{"__metadata__":null}`, 0), nil},
	{"scalar", raw(`{`+entry("a", "F32", "[]", 0, 4)+`}`, 4), []string{"a"}},
	{"no elements", raw(`{`+entry("a", "F32", "[0,9]", 0, 0)+`,`+entry("b", "U8", "[1]", 0, 1)+`}`, 1),
		[]string{"a", "b"}},
	{"any order", raw(`{`+entry("b", "U8", "[1]", 1, 2)+`,`+entry("a", "U8", "[1]", 0, 1)+`}`, 2), []string{"a", "b"}},
	{"further field", raw(`{"a":{"x":{"y":[]},"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), []string{"a"}},
	{"surrogate pair", raw(`{"\ud83d\ude00":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), []string{"😀"}},
	{"escaped slashes", raw(`{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), []string{`\ud800`}},
	{"every dtype", everyDType(), nil},
	{"empty key", raw(`{`+entry("", "U8", "[1]", 0, 1)+`}`, 1), []string{""}},
	{"escaped key", raw(`{"a\n\"\\\u00e9":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), []string{"a\n\"\\é"}},
	{"metadata key twice", raw(`{"__metadata__":{"a":"1","a":"2"}}`, 0), nil},
	{"empty metadata", raw(`{"__metadata__":{}}`, 0), nil},
	{"six bits", raw(`{`+entry("a", "F6_E2M3", "[4]", 0, 3)+`}`, 3), []string{"a"}},
	{
		"no elements amid others",
		raw(`{`+entry("a", "U8", "[1]", 0, 1)+`,`+entry("b", "U8", "[0]", 1, 1)+`,`+entry("c", "U8", "[1]", 1, 2)+`}`,
			2), []string{"a", "b", "c"},
	},
}

// everyDType is a file with a tensor of each dtype.
func everyDType() []byte {
	var fields []string
	end := 0
	for _, dtype := range slices.Sorted(maps.Keys(dtypes)) {
		begin := end
		end += dtypes[dtype].bits
		fields = append(fields, entry(dtype, dtype, "[2,4]", begin, end))
	}
	return raw("{"+strings.Join(fields, ",")+"}", end)
}

func TestUnusualButValid(t *testing.T) {
	for _, c := range unusual {
		t.Run(c.name, func(t *testing.T) {
			f, err := parse(bytes.NewReader(c.data), int64(len(c.data)))
			if err != nil {
				t.Fatal(err)
			}
			if c.keys != nil && !slices.Equal(f.Keys(), c.keys) {
				t.Errorf("got keys %q, want %q", f.Keys(), c.keys)
			}
		})
	}
}

func TestOpenOther(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none")); err == nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: got %v", err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: got %v", err)
	}
}

func TestWriteRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	values := []float32{0, -1.5, 3.25, 65504, 1e-7, -0.1}
	float := func() ([]float32, error) { return values, nil }
	entries := []Entry{
		{Key: "a.u8", DType: "U8", Shape: []int{3}, Data: []byte{1, 2, 255}},
		{Key: "b.f16", DType: "F16", Shape: []int{2, 3}, Float32s: float},
		{Key: "a.f32", DType: "F32", Shape: []int{6}, Float32s: float},
		{Key: "é \"<quoted>\"", DType: "BF16", Shape: []int{3, 2}, Float32s: float},
		{Key: "i64", DType: "I64", Shape: []int{}, Data: binary.LittleEndian.AppendUint64(nil, 1<<40)},
		{Key: "none", DType: "F32", Shape: []int{0}},
	}
	metadata := map[string]string{"format": "pt", "note": "a\nb"}
	if err := Write(path, entries, metadata); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !maps.Equal(f.Metadata(), metadata) {
		t.Errorf("got metadata %v", f.Metadata())
	}
	for _, e := range entries {
		got, ok := f.Tensor(e.Key)
		if !ok || got.DType != e.DType || !slices.Equal(got.Shape, e.Shape) {
			t.Errorf("%s: got %s %v, %v", e.Key, got.DType, got.Shape, ok)
		}
		if e.Data != nil && string(contentOf(t, got)) != string(e.Data) {
			t.Errorf("%s: got data %v", e.Key, contentOf(t, got))
		}
	}
	got, _ := f.Tensor("a.f32")
	if back, err := got.Float32s(); err != nil || !slices.Equal(back, values) {
		t.Errorf("got %v, %v, want %v", back, err, values)
	}
	head, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(head); n%8 != 0 {
		t.Errorf("header of %d bytes is not aligned to 8", n)
	}
	at := -1
	for _, key := range []string{
		`"__metadata__"`, `"i64"`, `"a.f32"`, `"none"`, `"é \"<quoted>\""`, `"b.f16"`, `"a.u8"`,
	} {
		i := strings.Index(string(head), key)
		if i <= at {
			t.Errorf("%s stands at %d, want it after %d", key, i, at)
		}
		at = i
	}
}

func TestWriteRejects(t *testing.T) {
	float := func() ([]float32, error) { return []float32{1}, nil }
	for name, c := range map[string]struct {
		entries []Entry
		want    string
	}{
		"duplicate": {
			[]Entry{
				{Key: "a", DType: "U8", Shape: []int{1}, Data: []byte{1}},
				{Key: "a", DType: "U8", Shape: []int{1}, Data: []byte{1}},
			}, "appears twice",
		},
		"metadata as key": {
			[]Entry{{Key: "__metadata__", DType: "U8", Shape: []int{1}, Data: []byte{1}}}, "not a usable key",
		},
		"unknown dtype": {[]Entry{{Key: "a", DType: "F8", Shape: []int{1}, Data: []byte{1}}}, `unknown dtype "F8"`},
		"wrong size": {
			[]Entry{{Key: "a", DType: "F32", Shape: []int{2}, Data: []byte{1}}}, "got 1 bytes, want 8",
		},
		"wrong count": {
			[]Entry{{Key: "a", DType: "F32", Shape: []int{2}, Float32s: float}}, "got 1 values, want 2",
		},
		"floats as ints": {
			[]Entry{{Key: "a", DType: "I64", Shape: []int{1}, Float32s: float}}, "use F64, F32, F16, BF16 or U8",
		},
		"nothing":  {[]Entry{{Key: "a", DType: "F32", Shape: []int{1}}}, "has no data"},
		"negative": {[]Entry{{Key: "a", DType: "F32", Shape: []int{-1}, Float32s: float}}, "negative"},
		"failing producer": {
			[]Entry{{
				Key: "a", DType: "F32", Shape: []int{1},
				Float32s: func() ([]float32, error) { return nil, os.ErrClosed },
			}}, "already closed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := Write(filepath.Join(dir, "x.safetensors"), c.entries, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
	if err := Write(filepath.Join(t.TempDir(), "no", "x.safetensors"), nil, nil); err == nil {
		t.Error("wrote into a folder that does not exist")
	}
}
