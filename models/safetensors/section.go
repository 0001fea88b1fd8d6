package safetensors

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Files of weights are read at a tensor's place when it is used, and are not mapped into memory: if a mapped file is
// truncated while in use, touching the missing part raises a signal that ends the process, in C code too.

// section is where a tensor's elements lie in a file: in one piece, or in the several into which Flax splits a large
// array.
type section struct {
	file   io.ReaderAt
	pieces []piece
}

type piece struct{ at, size int64 }

// size is the number of bytes.
func (s section) size() (n int64) {
	for _, p := range s.pieces {
		n += p.size
	}
	return n
}

// read fills to with the bytes from at.
func (s section) read(to []byte, at int64) error {
	for _, p := range s.pieces {
		n := min(int64(len(to)), p.size-at)
		if n <= 0 {
			at -= p.size
			continue
		}
		if _, err := s.file.ReadAt(to[:n], p.at+at); err != nil {
			return ChangedError(err, p.at+at+n)
		}
		to, at = to[n:], 0
	}
	return nil
}

// ChangedError is the error for a file that became shorter than end, an offset at which it had bytes when it was
// opened.
func ChangedError(err error, end int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file changed while it was in use: it had at least %d bytes when it was opened, "+
			"and now ends before: run again when nothing writes to it", end)
	}
	return err
}

// part is the i-th of n equal parts.
func (s section) part(i, n int64) section {
	size := s.size() / n
	out := section{file: s.file}
	at := int64(0) // of the piece, in the section
	for _, p := range s.pieces {
		begin, end := max(at, i*size), min(at+p.size, (i+1)*size)
		if begin < end {
			out.pieces = append(out.pieces, piece{p.at + begin - at, end - begin})
		}
		at += p.size
	}
	return out
}

// InFile is a tensor of FileOrder whose elements are the size bytes at an offset of a file, which is read until it is
// closed.
func InFile(dtype string, shape []int, file io.ReaderAt, offset, size int64) Tensor {
	return Tensor{DType: dtype, Shape: shape, from: section{file, []piece{{offset, size}}}}
}

// Join is a tensor of that shape whose elements are those of parts, one after another: tensors in one file, of one
// dtype.
func Join(shape []int, parts []Tensor) Tensor {
	out := Tensor{Shape: shape}
	for _, p := range parts {
		out.DType, out.from.file = p.DType, p.from.file
		out.from.pieces = append(out.from.pieces, p.from.pieces...)
	}
	return out
}

// bytes is how many bytes the tensor's elements have.
func (t Tensor) bytes() int64 {
	if t.from.file != nil {
		return t.from.size()
	}
	return int64(len(t.data))
}

// RawTensor is a tensor in memory whose elements stand in data as a diffusers file has them, little-endian.
func RawTensor(dtype string, shape []int, data []byte) Tensor {
	return Tensor{DType: dtype, Shape: shape, data: data}
}

// At is the i-th part of a tensor of FileOrder along its first axis: of one [n, …] it is […].
func (t Tensor) At(i int) Tensor {
	out := t.Part(i, t.Shape[0])
	out.Shape = t.Shape[1:]
	return out
}

// Part is a tensor of the same shape with the i-th of n equal parts of the bytes.
func (t Tensor) Part(i, n int) Tensor {
	size := len(t.data) / n
	t.data = t.data[i*size : (i+1)*size : (i+1)*size]
	t.from = t.from.part(int64(i), int64(n))
	return t
}

// read fills to with the tensor's bytes from at on.
func (t Tensor) read(to []byte, at int64) error {
	if t.from.file != nil {
		return t.from.read(to, at)
	}
	copy(to, t.data[at:])
	return nil
}

// Bytes are the elements as they stand in the file, little-endian. They must not be changed.
func (t Tensor) Bytes() ([]byte, error) {
	if t.from.file == nil {
		return t.data, nil
	}
	data := make([]byte, t.bytes())
	return data, t.read(data, 0)
}

// buffers are what parts of files are read into on their way to somewhere else.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// withBytes calls do with n bytes of the tensor from at on, which are do's until it returns.
func (t Tensor) withBytes(at, n int64, do func([]byte) error) error {
	if t.from.file == nil {
		return do(t.data[at : at+n])
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	if int64(cap(*buffer)) < n {
		*buffer = make([]byte, n)
	}
	data := (*buffer)[:n]
	if err := t.read(data, at); err != nil {
		return err
	}
	return do(data)
}
