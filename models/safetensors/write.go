package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"limner/internal/disk"
)

// Entry is a tensor to write. Its elements come from Parts, Data or Float32s, the first of them that is there.
type Entry struct {
	Key   string
	DType string
	Shape []int
	// Parts are the tensors whose elements are written one after another, changed to DType and to Order.
	Parts []Tensor
	Order Order
	// Data holds the elements as the file does: little-endian, in DType.
	Data []byte
	// Float32s is called when the tensor's turn in the file comes, so one at a time; its values are
	// rounded to DType, which is F64, F32, F16, BF16 or U8, to nearest even. A finite value that F16 cannot
	// hold is an error, and so is what is no whole number of U8.
	Float32s func() ([]float32, error)
}

// Write writes a safetensors file in the reference writer's order: wider dtypes first, then by key.
// The file appears under its name when it is whole and synced, or not at all.
func Write(path string, entries []Entry, metadata map[string]string) error {
	err := disk.Replace(path, 0o644, func(w io.Writer) error { return WriteTo(w, entries, metadata) })
	if err != nil {
		return fmt.Errorf("write safetensors %s: %w", path, err)
	}
	return nil
}

// WriteTo writes to w, which should be buffered, what Write writes to a file.
func WriteTo(w io.Writer, entries []Entry, metadata map[string]string) error {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(dtypes[b.DType].rank, dtypes[a.DType].rank), strings.Compare(a.Key, b.Key))
	})
	head, err := formatHeader(entries, metadata)
	if err != nil {
		return err
	}
	if err := binary.Write(w, binary.LittleEndian, uint64(len(head))); err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	var scratch []byte
	for _, e := range entries {
		if err := e.writeTo(w, &scratch); err != nil {
			return fmt.Errorf("tensor %q: %w", e.Key, err)
		}
	}
	return nil
}

// formatHeader makes the JSON header of sorted entries, padded with spaces to 8 bytes.
func formatHeader(entries []Entry, metadata map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	if metadata != nil {
		if err := appendField(&b, metadataKey, metadata); err != nil {
			return nil, err
		}
	}
	seen := make(map[string]bool, len(entries))
	var at uint64
	for _, e := range entries {
		switch {
		case e.Key == metadataKey || !utf8.ValidString(e.Key):
			return nil, fmt.Errorf("tensor %q: not a usable key", e.Key)
		case seen[e.Key]:
			return nil, fmt.Errorf("tensor %q: appears twice", e.Key)
		}
		seen[e.Key] = true
		size, err := ByteSize(e.DType, e.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", e.Key, err)
		}
		switch {
		case e.Parts != nil:
			err = e.checkParts()
		case e.Data == nil && e.Float32s == nil && size > 0:
			return nil, fmt.Errorf("tensor %q: has no data", e.Key)
		case e.Data == nil && e.Float32s != nil && !IsFloat(e.DType) && e.DType != "U8":
			return nil, fmt.Errorf("tensor %q: float32 values cannot be written as %s: use F64, F32, F16, BF16 or U8",
				e.Key, e.DType)
		case e.Data != nil && uint64(len(e.Data)) != size:
			return nil, fmt.Errorf("tensor %q: got %d bytes, want %d for %s %v",
				e.Key, len(e.Data), size, e.DType, e.Shape)
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", e.Key, err)
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		err = appendField(&b, e.Key, struct {
			DType   string    `json:"dtype"`
			Shape   []int     `json:"shape"`
			Offsets [2]uint64 `json:"data_offsets"`
		}{e.DType, append([]int{}, e.Shape...), [2]uint64{at, at + size}})
		if err != nil {
			return nil, err
		}
		at += size
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > maxHeader {
		return nil, fmt.Errorf("header of %d bytes exceeds the format's limit of %d", b.Len(), maxHeader)
	}
	return b.Bytes(), nil
}

// appendField appends "key":value.
func appendField(b *bytes.Buffer, key string, value any) error {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(key); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the encoder's newline
	b.WriteByte(':')
	if err := enc.Encode(value); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1)
	return nil
}

// checkParts fails unless the parts fill the entry and can be changed to its dtype.
func (e Entry) checkParts() error {
	size := 0
	for _, p := range e.Parts {
		size += p.Size()
		if err := p.CheckSize(); err != nil {
			return err
		}
		if p.DType != e.DType && !(IsFloat(p.DType) && IsFloat(e.DType)) {
			return fmt.Errorf("%s cannot be written as %s", p.DType, e.DType)
		}
	}
	if want := (Tensor{Shape: e.Shape}).Size(); size != want {
		return fmt.Errorf("got %d elements, want %d for %v", size, want, e.Shape)
	}
	return nil
}

// writeTo writes the elements, using scratch and letting it grow.
func (e Entry) writeTo(w io.Writer, scratch *[]byte) error {
	switch {
	case e.Parts != nil:
		for _, p := range e.Parts {
			data, err := p.Elements(e.DType, e.Order, scratch)
			if err != nil {
				return err
			}
			if _, err := w.Write(data); err != nil {
				return err
			}
		}
		return nil
	case e.Data != nil || e.Float32s == nil:
		_, err := w.Write(e.Data)
		return err
	}
	values, err := e.Float32s()
	if err != nil {
		return err
	}
	if want := (Tensor{Shape: e.Shape}).Size(); len(values) != want {
		return fmt.Errorf("got %d values, want %d for %v", len(values), want, e.Shape)
	}
	data, err := Floats(e.Shape, values, FileOrder).Elements(e.DType, FileOrder, scratch)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// Encode gives values in a dtype that Entry.Float32s is written as; those of F32 share their memory.
func Encode(values []float32, dtype string) ([]byte, error) {
	var scratch []byte
	return Floats([]int{len(values)}, values, FileOrder).Elements(dtype, FileOrder, &scratch)
}
