package arrow

import (
	"encoding/binary"
	"errors"
)

// errDamaged is the error for offsets that lead out of a message.
var errDamaged = errors.New("damaged metadata: an offset leads out of it")

// buffer is a message in the flatbuffers format, which is tables of fields that refer to each other by offsets. A
// stranger's offsets lead anywhere: what does not lie within the bytes reads as zero and is remembered.
type buffer struct {
	raw     []byte
	damaged bool
}

// bytes are n bytes at an offset.
func (b *buffer) bytes(at, n int) []byte {
	if at < 0 || n < 0 || at > len(b.raw) || n > len(b.raw)-at {
		b.damaged = true
		return make([]byte, min(max(n, 0), 8)) // as many as a number has
	}
	return b.raw[at : at+n]
}

func (b *buffer) uint32(at int) int { return int(binary.LittleEndian.Uint32(b.bytes(at, 4))) }

// table is a table in a buffer; the zero table has no fields.
type table struct {
	b  *buffer
	at int
}

// root is the table that a buffer begins with.
func (b *buffer) root() table { return table{b, b.uint32(0)} }

// field is the place of a field's value; 0 where the table lacks it.
func (t table) field(index int) int {
	if t.b == nil {
		return 0
	}
	fields := t.at - int(int32(t.b.uint32(t.at)))
	size := int(binary.LittleEndian.Uint16(t.b.bytes(fields, 2)))
	if entry := 4 + 2*index; entry+2 <= size {
		if offset := int(binary.LittleEndian.Uint16(t.b.bytes(fields+entry, 2))); offset > 0 {
			return t.at + offset
		}
	}
	return 0
}

// number is the integer of a field that has so many bytes; 0 where the table lacks it.
func (t table) number(index, size int) int64 {
	at := t.field(index)
	if at == 0 {
		return 0
	}
	raw := t.b.bytes(at, size)
	switch size {
	case 1:
		return int64(raw[0])
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(raw)))
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(raw)))
	}
	return int64(binary.LittleEndian.Uint64(raw))
}

// follow is the place that the offset in a field leads to; 0 where the table lacks it.
func (t table) follow(index int) int {
	at := t.field(index)
	if at == 0 {
		return 0
	}
	return at + t.b.uint32(at)
}

// table is the table in a field.
func (t table) table(index int) (child table, ok bool) {
	at := t.follow(index)
	return table{t.b, at}, at != 0
}

// text is the string in a field.
func (t table) text(index int) string {
	at, n := t.vector(index, 1)
	if at == 0 {
		return ""
	}
	return string(t.b.bytes(at, n))
}

// vector is the place of the first of n elements of a field, which have the given size.
func (t table) vector(index, size int) (at, n int) {
	at = t.follow(index)
	if at == 0 {
		return 0, 0
	}
	n = t.b.uint32(at)
	if n > (len(t.b.raw)-at)/size {
		t.b.damaged = true
		return 0, 0
	}
	return at + 4, n
}

// tables are the tables in a field's vector.
func (t table) tables(index int) []table {
	at, n := t.vector(index, 4)
	tables := make([]table, n)
	for i := range tables {
		tables[i] = table{t.b, at + 4*i + t.b.uint32(at+4*i)}
	}
	return tables
}
