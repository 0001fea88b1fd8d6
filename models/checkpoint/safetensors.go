// Package checkpoint maps model files to named tensors and back: safetensors and Flax msgpack, the key
// spellings of every format, and the change between a file's layout and memory's.
package checkpoint

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"sort"
)

// maxHeader is the largest header that the format allows, in bytes.
const maxHeader = 100_000_000

// lengthSize is the size of the header's length at the start of a file.
const lengthSize = 8

// File is an open safetensors file. Its tensors share the file's memory.
type File struct {
	path     string
	data     []byte
	release  func() error
	metadata map[string]string
	keys     []string // sorted
	tensors  map[string]Tensor
}

// Tensor is one array of a file, little-endian.
type Tensor struct {
	DType string // as the format spells it: F32, BF16, I64, …
	Shape []int  // as a diffusers file has it: [out, in] and [out, in, height, width]
	Data  []byte // part of the mapped file: read only, and valid until the file is closed
	Order Order  // how the elements stand in Data

	mapped bool // Data is part of a mapped file, whose pages may be dropped
}

// Order says how the elements of a tensor stand in its Data.
type Order int

const (
	// FileOrder is row-major in Shape, as PyTorch saves.
	FileOrder Order = iota
	// MemoryOrder is row-major in memory's layout of the same tensor, [in, out] or [height, width, in, out],
	// as Flax saves. Shape still is [out, in] or [out, in, height, width].
	MemoryOrder
)

// Open maps a safetensors file into memory and checks all of its header: a file that opens has every
// tensor in full. It fails on a truncated or longer file with the size got and wanted, on offsets
// that overlap or leave holes, on shapes that do not fill their bytes, and on unknown dtypes.
func Open(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open safetensors: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open safetensors %s: not a regular file", path)
	}
	data, release, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("open safetensors %s: %w", path, err)
	}
	f, err := parse(data)
	if err != nil {
		_ = release()
		return nil, fmt.Errorf("open safetensors %s: %w", path, err)
	}
	f.path, f.release = path, release
	for key, t := range f.tensors {
		t.mapped = canDropPages
		f.tensors[key] = t
	}
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

// Metadata is the header's free text by name; nil where the file has none.
func (f *File) Metadata() map[string]string { return f.metadata }

// Close unmaps the file: its tensors' Data must not be touched any more.
func (f *File) Close() error {
	if f.release == nil {
		return nil
	}
	release := f.release
	f.data, f.tensors, f.keys, f.release = nil, nil, nil, nil
	if err := release(); err != nil {
		return fmt.Errorf("close safetensors %s: %w", f.path, err)
	}
	return nil
}

// parse reads a whole file that is already in memory.
func parse(data []byte) (*File, error) {
	if len(data) < lengthSize {
		return nil, fmt.Errorf("truncated: got %d bytes, want at least %d", len(data), lengthSize)
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader {
		return nil, fmt.Errorf("header of %d bytes exceeds the format's limit of %d: not a safetensors file, or damaged", n, maxHeader)
	}
	start := lengthSize + int(n)
	if len(data) < start {
		return nil, fmt.Errorf("truncated in the header: got %d bytes, want at least %d", len(data), start)
	}
	h, err := parseHeader(data[lengthSize:start])
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	size, err := h.validate()
	if err != nil {
		return nil, err
	}
	switch have := uint64(len(data) - start); {
	case have < size:
		return nil, fmt.Errorf("truncated: got %d bytes, want %d", len(data), uint64(start)+size)
	case have > size:
		return nil, fmt.Errorf("%d bytes after the last tensor: got %d bytes, want %d", have-size, len(data), uint64(start)+size)
	}

	f := &File{data: data, metadata: h.metadata, tensors: make(map[string]Tensor, len(h.infos))}
	body := data[start:]
	for key, info := range h.infos {
		f.tensors[key] = Tensor{DType: info.dtype, Shape: info.shape, Data: body[info.begin:info.end:info.end]}
		f.keys = append(f.keys, key)
	}
	sort.Strings(f.keys)
	return f, nil
}
