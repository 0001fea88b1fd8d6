package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"limner/models/safetensors"
)

// msgpackReader walks the part of MessagePack that Flax writes: maps with text keys down to arrays. It
// allocates nothing by lengths that the file claims, and reads no elements.
type msgpackReader struct {
	file    io.ReaderAt
	at, end int64  // the next byte, and what it may read up to
	window  []byte // a part of the file
	from    int64  // where it begins
}

// msgpackWindow is more than any head, name or shape needs.
const msgpackWindow = 1 << 12

// maxDepth is how deep maps may be nested; networks need about ten.
const maxDepth = 64

var errTruncated = errors.New("truncated")

// pass consumes n bytes without reading them, and returns where they begin.
func (r *msgpackReader) pass(n uint64) (at int64, err error) {
	if n > uint64(r.end-r.at) {
		return 0, errTruncated
	}
	at = r.at
	r.at += int64(n)
	return at, nil
}

// take consumes n bytes, at most msgpackWindow. They are valid until the next call.
func (r *msgpackReader) take(n uint64) ([]byte, error) {
	at, err := r.pass(n)
	if err != nil {
		return nil, err
	}
	if n > msgpackWindow {
		return nil, fmt.Errorf("a text of %d bytes, want at most %d", n, msgpackWindow)
	}
	if at < r.from || r.at > r.from+int64(len(r.window)) {
		r.window = slices.Grow(r.window[:0], msgpackWindow)[:min(msgpackWindow, r.end-at)]
		r.from = at
		if _, err := r.file.ReadAt(r.window, at); err != nil {
			r.window = nil
			return nil, safetensors.ChangedError(err, at)
		}
	}
	return r.window[at-r.from:][:n:n], nil
}

// number consumes a big-endian number of that many bytes.
func (r *msgpackReader) number(bytes int) (uint64, error) {
	b, err := r.take(uint64(bytes))
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n, nil
}

// The kinds of values, as far as they are told apart.
type msgpackKind int

const (
	msgpackOther msgpackKind = iota // nil, numbers
	msgpackBool
	msgpackInt
	msgpackString
	msgpackBytes
	msgpackArray
	msgpackMap
	msgpackExt
)

// msgpackValue is the head of a value: a number, or the length of what follows.
type msgpackValue struct {
	kind msgpackKind
	n    uint64 // the number, or the length
	ext  byte   // an extension's type
}

// next consumes the head of a value and, of numbers, the whole.
func (r *msgpackReader) next() (msgpackValue, error) {
	head, err := r.take(1)
	if err != nil {
		return msgpackValue{}, err
	}
	c := head[0]
	sized := func(kind msgpackKind, bytes int) (msgpackValue, error) {
		n, err := r.number(bytes)
		return msgpackValue{kind: kind, n: n}, err
	}
	switch {
	case c < 0x80:
		return msgpackValue{kind: msgpackInt, n: uint64(c)}, nil
	case c < 0x90:
		return msgpackValue{kind: msgpackMap, n: uint64(c & 15)}, nil
	case c < 0xa0:
		return msgpackValue{kind: msgpackArray, n: uint64(c & 15)}, nil
	case c < 0xc0:
		return msgpackValue{kind: msgpackString, n: uint64(c & 31)}, nil
	case c == 0xc0: // nil
		return msgpackValue{}, nil
	case c == 0xc2 || c == 0xc3:
		return msgpackValue{kind: msgpackBool, n: uint64(c & 1)}, nil
	case c >= 0xc4 && c <= 0xc6:
		return sized(msgpackBytes, 1<<(c-0xc4))
	case c >= 0xc7 && c <= 0xc9:
		v, err := sized(msgpackExt, 1<<(c-0xc7))
		if err != nil {
			return v, err
		}
		return r.extType(v)
	case c == 0xca || c == 0xcb: // floating point
		_, err := r.number(4 << (c - 0xca))
		return msgpackValue{}, err
	case c >= 0xcc && c <= 0xcf:
		return sized(msgpackInt, 1<<(c-0xcc))
	case c >= 0xd0 && c <= 0xd3: // signed: negative ones are no lengths or indices
		_, err := r.number(1 << (c - 0xd0))
		return msgpackValue{}, err
	case c >= 0xd4 && c <= 0xd8:
		return r.extType(msgpackValue{kind: msgpackExt, n: 1 << (c - 0xd4)})
	case c >= 0xd9 && c <= 0xdb:
		return sized(msgpackString, 1<<(c-0xd9))
	case c == 0xdc || c == 0xdd:
		return sized(msgpackArray, 2<<(c-0xdc))
	case c == 0xde || c == 0xdf:
		return sized(msgpackMap, 2<<(c-0xde))
	case c >= 0xe0: // -32 to -1
		return msgpackValue{}, nil
	}
	return msgpackValue{}, fmt.Errorf("byte %#x begins no value", c)
}

func (r *msgpackReader) extType(v msgpackValue) (msgpackValue, error) {
	b, err := r.take(1)
	if err != nil {
		return v, err
	}
	v.ext = b[0]
	return v, nil
}

// text consumes a string.
func (r *msgpackReader) text() (string, error) {
	v, err := r.next()
	if err != nil {
		return "", err
	}
	if v.kind != msgpackString {
		return "", errors.New("a key is no text")
	}
	b, err := r.take(v.n)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", errors.New("a key is not UTF-8")
	}
	return string(b), nil
}

// skip consumes a value of any kind but a map or an array with content.
func (r *msgpackReader) skip(v msgpackValue) error {
	switch v.kind {
	case msgpackString, msgpackBytes, msgpackExt:
		_, err := r.pass(v.n)
		return err
	case msgpackMap, msgpackArray:
		if v.n > 0 {
			return errors.New("holds a list, want arrays of numbers by name")
		}
	}
	return nil
}

// flaxArray is the extension type of Flax's arrays.
const flaxArray = 1

// chunked is the key that marks an array which Flax stored in pieces.
const chunked = "__msgpack_chunked_array__"

// parseMsgpack reads a file of Flax weights of that size, but for the elements. The tensors' keys are the names in the
// file, joined by "/", and their shapes and elements stand as in the file.
func parseMsgpack(file io.ReaderAt, size int64) (map[string]safetensors.Tensor, error) {
	r := &msgpackReader{file: file, end: size}
	v, err := r.next()
	if err != nil {
		return nil, err
	}
	if v.kind != msgpackMap {
		return nil, errors.New("holds no map")
	}
	tensors := map[string]safetensors.Tensor{}
	if _, err := r.readMap(v.n, nil, tensors); err != nil {
		return nil, fmt.Errorf("at byte %d of %d: %w", r.at, size, err)
	}
	if r.at != size {
		return nil, fmt.Errorf("%d bytes after the end", size-r.at)
	}
	return tensors, nil
}

// readMap reads a map of n entries into tensors. A map that is an array in pieces is returned instead.
func (r *msgpackReader) readMap(n uint64, path []string,
	tensors map[string]safetensors.Tensor) (*safetensors.Tensor, error) {
	if len(path) > maxDepth {
		return nil, fmt.Errorf("maps are nested more than %d deep", maxDepth)
	}
	for i := range n {
		name, err := r.text()
		if err != nil {
			return nil, err
		}
		if i == 0 && name == chunked {
			return r.readChunks(n)
		}
		if err := r.readEntry(append(path, name), tensors); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (r *msgpackReader) readEntry(path []string, tensors map[string]safetensors.Tensor) error {
	length := 0
	for _, name := range path {
		length += len(name) + 1
	}
	if length > maxKey {
		return fmt.Errorf("a name is longer than %d bytes", maxKey)
	}
	v, err := r.next()
	if err != nil {
		return err
	}
	var t *safetensors.Tensor
	switch {
	case v.kind == msgpackMap:
		t, err = r.readMap(v.n, path, tensors)
	case v.kind == msgpackExt && v.ext == flaxArray:
		t, err = r.readArray(v.n)
	default:
		err = r.skip(v)
	}
	if err != nil || t == nil {
		return err
	}
	key := strings.Join(path, "/")
	if _, ok := tensors[key]; ok {
		return fmt.Errorf("%q appears twice", key)
	}
	tensors[key] = *t
	return nil
}

// readArray reads an array: [shape, name of the dtype, bytes], itself in MessagePack, in n bytes.
func (r *msgpackReader) readArray(n uint64) (*safetensors.Tensor, error) {
	if n > uint64(r.end-r.at) {
		return nil, errTruncated
	}
	whole := r.end
	r.end = r.at + int64(n)
	t, err := r.array()
	if err == nil && r.at != r.end {
		err = errors.New("bytes after an array")
	}
	r.end = whole
	return t, err
}

// numpyDTypes are numpy's names of the dtypes that weights have.
var numpyDTypes = map[string]string{
	"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64",
	"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32",
	"uint64": "U64", "bool": "BOOL",
}

func (r *msgpackReader) array() (*safetensors.Tensor, error) {
	v, err := r.next()
	if err != nil {
		return nil, err
	}
	if v.kind != msgpackArray || v.n != 3 {
		return nil, errors.New("an array is not its shape, dtype and bytes")
	}
	shape, err := r.shape()
	if err != nil {
		return nil, err
	}
	name, err := r.text()
	if err != nil {
		return nil, err
	}
	dtype, ok := numpyDTypes[name]
	if !ok {
		return nil, fmt.Errorf("dtype %q is not supported", name)
	}
	if v, err = r.next(); err != nil {
		return nil, err
	}
	if v.kind != msgpackBytes {
		return nil, errors.New("an array holds no bytes")
	}
	at, err := r.pass(v.n)
	if err != nil {
		return nil, err
	}
	t := safetensors.InFile(dtype, shape, r.file, at, int64(v.n))
	return &t, t.CheckSize()
}

func (r *msgpackReader) shape() ([]int, error) {
	v, err := r.next()
	if err != nil {
		return nil, err
	}
	if v.kind != msgpackArray || v.n > safetensors.MaxRank {
		return nil, errors.New("a shape is no short list")
	}
	shape := make([]int, v.n)
	for i := range shape {
		d, err := r.next()
		if err != nil {
			return nil, err
		}
		if d.kind != msgpackInt || d.n > math.MaxInt {
			return nil, errors.New("a shape holds something else than numbers")
		}
		shape[i] = int(d.n)
	}
	return shape, nil
}

// readChunks reads the rest of a map of n entries that is an array in pieces, after its first key: shape
// and chunks are maps of "0", "1", …
func (r *msgpackReader) readChunks(n uint64) (*safetensors.Tensor, error) {
	mark, err := r.next()
	if err != nil {
		return nil, err
	}
	if mark.kind != msgpackBool || n != 3 {
		return nil, errors.New("an array in pieces is damaged")
	}
	var pieces []safetensors.Tensor
	var dims []int
	for range n - 1 {
		name, err := r.text()
		if err != nil {
			return nil, err
		}
		switch name {
		case "shape":
			err = r.numbered(func(v msgpackValue) error {
				if v.kind != msgpackInt || v.n > math.MaxInt || len(dims) == safetensors.MaxRank {
					return errors.New("a shape holds something else than numbers")
				}
				dims = append(dims, int(v.n))
				return nil
			})
		case "chunks":
			err = r.numbered(func(v msgpackValue) error {
				if v.kind != msgpackExt || v.ext != flaxArray {
					return errors.New("a piece is no array")
				}
				piece, err := r.readArray(v.n)
				if err != nil {
					return err
				}
				pieces = append(pieces, *piece)
				if piece.DType != pieces[0].DType {
					return errors.New("pieces have several dtypes")
				}
				return nil
			})
		default:
			err = fmt.Errorf("%q is no part of an array in pieces", name)
		}
		if err != nil {
			return nil, err
		}
	}
	whole := safetensors.Join(dims, pieces)
	return &whole, whole.CheckSize()
}

// numbered reads a map with the keys "0", "1", … in this order.
func (r *msgpackReader) numbered(visit func(v msgpackValue) error) error {
	v, err := r.next()
	if err != nil {
		return err
	}
	if v.kind != msgpackMap {
		return errors.New("a list is no map")
	}
	for i := range v.n {
		name, err := r.text()
		if err != nil {
			return err
		}
		if name != strconv.FormatUint(i, 10) {
			return fmt.Errorf("got entry %q, want %d", name, i)
		}
		if v, err = r.next(); err != nil {
			return err
		}
		if err := visit(v); err != nil {
			return err
		}
	}
	return nil
}

// isMsgpack says whether the data begins as a map with a text key does.
func isMsgpack(data []byte) bool {
	r := &msgpackReader{file: bytes.NewReader(data), end: int64(len(data))}
	v, err := r.next()
	if err != nil || v.kind != msgpackMap || v.n == 0 {
		return false
	}
	_, err = r.text()
	return err == nil
}
