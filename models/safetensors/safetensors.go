// Package safetensors reads and writes safetensors files: headers, tensors as a stream, and their elements in another
// dtype or order.
package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sort"

	"limner/internal/disk"
)

// maxHeader is the largest header that the format allows, in bytes.
const maxHeader = 100_000_000

// lengthSize is the size of the header's length at the start of a file.
const lengthSize = 8

// File is an open safetensors file. Its tensors are read from it when they are used.
type File struct {
	path     string
	file     *os.File // nil once closed
	metadata map[string]string
	keys     []string // sorted
	tensors  map[string]Tensor
}

// Tensor is one array, little-endian, in memory or in an open file.
type Tensor struct {
	DType string // as the format spells it: F32, BF16, I64, …
	Shape []int  // as a diffusers file has it: [out, in] and [out, in, height, width]
	Order Order  // how the elements are ordered in Bytes

	data []byte  // if in memory
	from section // if in a file: it can be read until the file is closed
}

// Order says how the elements of a tensor are ordered in its Bytes.
type Order int

const (
	// FileOrder is row-major in Shape, as PyTorch saves.
	FileOrder Order = iota
	// MemoryOrder is row-major in memory's layout of the same tensor, [in, out] or [height, width, in, out],
	// as Flax saves. Shape still is [out, in] or [out, in, height, width].
	MemoryOrder
)

// Open opens a safetensors file and checks all of its header: a file that opens has every tensor completely. It fails
// for a file that is too short or too long, with both sizes, for offsets that overlap or leave holes, for shapes that
// do not fill their bytes, and for unknown dtypes.
func Open(path string) (*File, error) {
	file, size, err := disk.OpenSize(path)
	if err != nil {
		return nil, fmt.Errorf("open safetensors: %w", err)
	}
	f, err := parse(file, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open safetensors %s: %w", path, err), file.Close())
	}
	f.path, f.file = path, file
	return f, nil
}

// Path is the name that the file was opened by.
func (f *File) Path() string { return f.path }

// Keys lists the tensors' keys in alphabetical order.
func (f *File) Keys() []string { return slices.Clone(f.keys) }

// Tensor finds a tensor by its key.
func (f *File) Tensor(key string) (Tensor, bool) {
	t, ok := f.tensors[key]
	return t, ok
}

// Tensors are the tensors by their keys.
func (f *File) Tensors() map[string]Tensor { return maps.Clone(f.tensors) }

// Metadata is the header's free text by name; nil where the file has none.
func (f *File) Metadata() map[string]string { return f.metadata }

// Close closes the file: its tensors cannot be read any more.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.tensors, f.keys, f.file = nil, nil, nil
	if err := file.Close(); err != nil {
		return fmt.Errorf("close safetensors %s: %w", f.path, err)
	}
	return nil
}

// parse reads the header of a file of that size.
func parse(file io.ReaderAt, size int64) (*File, error) {
	if size < lengthSize {
		return nil, fmt.Errorf("truncated: got %d bytes, want at least %d", size, lengthSize)
	}
	var length [lengthSize]byte
	if _, err := file.ReadAt(length[:], 0); err != nil {
		return nil, ChangedError(err, size)
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxHeader {
		return nil, fmt.Errorf("header of %d bytes exceeds the format's limit of %d: "+
			"not a safetensors file, or damaged", n, maxHeader)
	}
	start := lengthSize + int64(n)
	if size < start {
		return nil, fmt.Errorf("truncated in the header: got %d bytes, want at least %d", size, start)
	}
	raw := make([]byte, n)
	if _, err := file.ReadAt(raw, lengthSize); err != nil {
		return nil, ChangedError(err, size)
	}
	h, err := parseHeader(raw)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	want, err := h.validate()
	if err != nil {
		return nil, err
	}
	switch have := uint64(size - start); {
	case have < want:
		return nil, fmt.Errorf("truncated: got %d bytes, want %d", size, uint64(start)+want)
	case have > want:
		return nil, fmt.Errorf("%d bytes after the last tensor: got %d bytes, want %d",
			have-want, size, uint64(start)+want)
	}

	f := &File{metadata: h.metadata, tensors: make(map[string]Tensor, len(h.infos))}
	for key, info := range h.infos {
		f.tensors[key] = InFile(info.dtype, info.shape, file, start+int64(info.begin), int64(info.end-info.begin))
		f.keys = append(f.keys, key)
	}
	sort.Strings(f.keys)
	return f, nil
}

// IsHead says whether a file begins as safetensors do: with the length of a JSON object, and the object.
func IsHead(head []byte) bool {
	return len(head) > lengthSize && binary.LittleEndian.Uint64(head) <= maxHeader && head[lengthSize] == '{'
}
