package arrow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Value is a value of a column.
type Value struct {
	Bytes []byte // of binary values and strings; nil for null
	Text  string // of numbers and truth values
	Null  bool
	Size  int64 // of a value that is longer than the limit, and was not read
}

// Check fails if a batch is too short for its rows of a field, before memory is taken for them.
func (f *File) Check(batch int, field *Field) error {
	b := f.Batches[batch]
	if field.node >= len(b.nodes) {
		return fmt.Errorf("column %s is missing in batch %d: damaged", field.Name, batch)
	}
	if field.Kind == Struct || field.Kind == null || b.Rows == 0 {
		return nil
	}
	if b.Rows > math.MaxInt64/64 {
		return fmt.Errorf("column %s: %d rows: damaged", field.Name, b.Rows)
	}
	_, err := b.fixed(field, field.buffer+1, 0, b.Rows)
	return err
}

// Bytes is about how many bytes the values of a field take in a batch.
func (f *File) Bytes(batch int, field *Field) (sum int64) {
	b := f.Batches[batch]
	for i := field.buffer; i < field.buffer+3 && i < len(b.buffers); i++ {
		sum += b.buffers[i].size
	}
	if field.Kind == List && len(field.Children) == 1 {
		sum += f.Bytes(batch, field.Children[0])
	}
	return sum
}

// Extent is where the values of a field, or those of its lists, lie in the file.
func (f *File) Extent(batch int, field *Field) (offset, size int64) {
	b := f.Batches[batch]
	index := field.buffer + 1
	switch {
	case field.Kind == List && len(field.Children) == 1:
		return f.Extent(batch, field.Children[0])
	case (field.Kind == Binary || field.Kind == String) && !field.encoded:
		index++
	}
	if index < len(b.buffers) {
		return b.buffers[index].offset, b.buffers[index].size
	}
	return 0, 0
}

// Fingerprint hashes where all values lie, and the dictionaries.
func (f *File) Fingerprint(h hash.Hash) {
	for _, b := range f.Batches {
		fmt.Fprintln(h, b.Rows, b.buffers)
	}
	for _, id := range slices.Sorted(maps.Keys(f.dictionaries)) {
		for _, v := range f.dictionaries[id] {
			fmt.Fprintf(h, "%d %t %q\n", id, v.Null, v.Bytes)
		}
	}
}

// Read reads count values of a field, from row first of a batch. Values of more than limit bytes are not read.
func (f *File) Read(batch int, field *Field, first, count, limit int64) ([]Value, error) {
	return f.read(f.Batches[batch], field, first, count, limit)
}

// ReadLists reads count lists of a field, from row first of a batch; nil for null.
func (f *File) ReadLists(batch int, field *Field, first, count, limit int64) ([][]Value, error) {
	b := f.Batches[batch]
	if field.Kind != List || len(field.Children) != 1 {
		return nil, fmt.Errorf("column %s is no list", field.Name)
	}
	present, err := f.validity(b, field, first, count)
	if err != nil {
		return nil, err
	}
	offsets, err := f.offsets(b, field, first, count)
	if err != nil {
		return nil, err
	}
	values, err := f.read(b, field.Children[0], offsets[0], offsets[count]-offsets[0], limit)
	if err != nil {
		return nil, err
	}
	lists := make([][]Value, count)
	for i := range lists {
		if present(i) {
			lists[i] = values[offsets[i]-offsets[0] : offsets[i+1]-offsets[0]]
		}
	}
	return lists, nil
}

// Present says which of count structs, from row first of a batch, are not null.
func (f *File) Present(batch int, field *Field, first, count int64) (func(i int) bool, error) {
	return f.validity(f.Batches[batch], field, first, count)
}

func (f *File) read(b Batch, field *Field, first, count, limit int64) ([]Value, error) {
	present, err := f.validity(b, field, first, count)
	if err != nil {
		return nil, err
	}
	var at func(i int) (Value, error)
	switch {
	case field.encoded:
		at, err = f.encodedValues(b, field, first, count, limit)
	case field.Kind == Binary || field.Kind == String:
		at, err = f.byteValues(b, field, first, count, limit)
	case field.Kind == Integer || field.Kind == Float || field.Kind == Bool:
		at, err = f.numbers(b, field, first, count)
	case field.Kind == null:
		at = func(int) (Value, error) { return Value{Null: true}, nil }
	default:
		err = fmt.Errorf("column %s: values of the type %s are not read", field.Name, field)
	}
	if err != nil {
		return nil, err
	}
	values := make([]Value, count)
	for i := range values {
		if !present(i) {
			values[i].Null = true
		} else if values[i], err = at(i); err != nil {
			return nil, fmt.Errorf("column %s: %w", field.Name, err)
		}
	}
	return values, nil
}

// fixed is where count values from the first lie in a buffer whose values have a fixed number of bits.
func (b Batch) fixed(field *Field, index int, first, count int64) (span, error) {
	if index >= len(b.buffers) {
		return span{}, fmt.Errorf("column %s has no values: damaged", field.Name)
	}
	bits := int64(field.bits)
	if bits != 1 && bits != 8 && bits != 16 && bits != 32 && bits != 64 {
		return span{}, fmt.Errorf("column %s has values of %d bits: damaged, or not read", field.Name, bits)
	}
	if !field.encoded && (field.Kind == Binary || field.Kind == String || field.Kind == List) { // offsets
		count++ // one more than values
	}
	buffer := b.buffers[index]
	if first < 0 || count < 0 || first > math.MaxInt64/128 || count > math.MaxInt64/128 ||
		(first+count)*bits > buffer.size*8 {
		return span{}, fmt.Errorf("column %s: %d values do not fit %d bytes: damaged",
			field.Name, first+count, buffer.size)
	}
	start, end := first*bits/8, ((first+count)*bits+7)/8
	return span{buffer.offset + start, end - start}, nil
}

// bytesOf reads a run of bytes.
func (f *File) bytesOf(s span) ([]byte, error) {
	raw := make([]byte, s.size)
	_, err := f.r.ReadAt(raw, s.offset)
	return raw, err
}

// validity says which of count values, from the first, are not null.
func (f *File) validity(b Batch, field *Field, first, count int64) (func(i int) bool, error) {
	all := func(int) bool { return true }
	if field.buffer >= len(b.buffers) || b.buffers[field.buffer].size == 0 || field.Kind == null {
		return all, nil
	}
	s, err := b.fixed(&Field{Name: field.Name, bits: 1}, field.buffer, first, count)
	if err != nil {
		return nil, err
	}
	raw, err := f.bytesOf(s)
	return func(i int) bool {
		at := first%8 + int64(i)
		return raw[at/8]>>(at%8)&1 != 0
	}, err
}

// offsets are those of count values, from the first, and where the last of them ends; they do not fall.
func (f *File) offsets(b Batch, field *Field, first, count int64) ([]int64, error) {
	offsets := make([]int64, count+1)
	if count == 0 {
		return offsets, nil
	}
	s, err := b.fixed(field, field.buffer+1, first, count)
	if err != nil {
		return nil, err
	}
	raw, err := f.bytesOf(s)
	if err != nil {
		return nil, err
	}
	for i := range offsets {
		if offsets[i] = integer(raw, i, field.bits, false); offsets[i] < 0 || i > 0 && offsets[i] < offsets[i-1] {
			return nil, fmt.Errorf("column %s: value %d begins at %d: damaged", field.Name, first+int64(i), offsets[i])
		}
	}
	return offsets, nil
}

// integer is a number of a buffer; one of 64 bits without a sign that does not fit is -1.
func integer(raw []byte, i, bits int, unsigned bool) int64 {
	switch bits {
	case 8:
		if unsigned {
			return int64(raw[i])
		}
		return int64(int8(raw[i]))
	case 16:
		v := binary.LittleEndian.Uint16(raw[2*i:])
		if unsigned {
			return int64(v)
		}
		return int64(int16(v))
	case 32:
		v := binary.LittleEndian.Uint32(raw[4*i:])
		if unsigned {
			return int64(v)
		}
		return int64(int32(v))
	}
	v := binary.LittleEndian.Uint64(raw[8*i:])
	if unsigned && v > math.MaxInt64 {
		return -1
	}
	return int64(v)
}

// byteValues gives binary values and strings. Together they are never more than the buffer has.
func (f *File) byteValues(b Batch, field *Field, first, count, limit int64) (func(int) (Value, error), error) {
	offsets, err := f.offsets(b, field, first, count)
	if err != nil {
		return nil, err
	}
	if field.buffer+2 >= len(b.buffers) {
		return nil, fmt.Errorf("column %s has no values: damaged", field.Name)
	}
	buffer := b.buffers[field.buffer+2]
	if last := offsets[count]; last > buffer.size {
		return nil, fmt.Errorf("column %s: values end at byte %d of %d: damaged", field.Name, last, buffer.size)
	}
	return func(i int) (Value, error) {
		s := span{buffer.offset + offsets[i], offsets[i+1] - offsets[i]}
		if s.size > limit {
			return Value{Size: s.size}, nil
		}
		raw, err := f.bytesOf(s)
		return Value{Bytes: raw}, err
	}, nil
}

// encodedValues gives the values of a dictionary that indices name.
func (f *File) encodedValues(b Batch, field *Field, first, count, limit int64) (func(int) (Value, error), error) {
	dictionary, ok := f.dictionaries[field.dictionary]
	if !ok {
		return nil, fmt.Errorf("column %s: its dictionary is missing: damaged, or not one of texts", field.Name)
	}
	s, err := b.fixed(field, field.buffer+1, first, count)
	if err != nil {
		return nil, err
	}
	raw, err := f.bytesOf(s)
	return func(i int) (Value, error) {
		at := integer(raw, i, field.bits, field.unsigned)
		if at < 0 || at >= int64(len(dictionary)) {
			return Value{}, fmt.Errorf("value %d is number %d of a dictionary of %d: damaged", first+int64(i), at,
				len(dictionary))
		}
		if v := dictionary[at]; int64(len(v.Bytes)) > limit {
			return Value{Size: int64(len(v.Bytes))}, nil
		}
		return dictionary[at], nil
	}, err
}

// numbers gives numbers and truth values as text.
func (f *File) numbers(b Batch, field *Field, first, count int64) (func(int) (Value, error), error) {
	s, err := b.fixed(field, field.buffer+1, first, count)
	if err != nil {
		return nil, err
	}
	raw, err := f.bytesOf(s)
	if err != nil {
		return nil, err
	}
	switch {
	case field.Kind == Bool:
		return func(i int) (Value, error) {
			at := first%8 + int64(i)
			return Value{Text: strconv.FormatBool(raw[at/8]>>(at%8)&1 != 0)}, nil
		}, nil
	case field.bits == 1 || field.Kind == Float && field.bits < 32:
		return nil, errors.New("column " + field.Name + ": numbers of its type are not read")
	case field.Kind == Float && field.bits == 32:
		return func(i int) (Value, error) {
			v := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
			return Value{Text: strconv.FormatFloat(float64(v), 'g', -1, 32)}, nil
		}, nil
	case field.Kind == Float:
		return func(i int) (Value, error) {
			v := math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
			return Value{Text: strconv.FormatFloat(v, 'g', -1, 64)}, nil
		}, nil
	case field.bits == 64 && field.unsigned:
		return func(i int) (Value, error) {
			return Value{Text: strconv.FormatUint(binary.LittleEndian.Uint64(raw[8*i:]), 10)}, nil
		}, nil
	}
	return func(i int) (Value, error) {
		return Value{Text: strconv.FormatInt(integer(raw, i, field.bits, field.unsigned), 10)}, nil
	}, nil
}
