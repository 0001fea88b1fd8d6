// Package arrow reads columns of Arrow IPC streams, as the datasets library's save_to_disk writes them, where they lie:
// of a record batch only the values that are asked for. Files may be damaged or malicious.
package arrow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxMetadata is the largest description of a record batch that is read, in bytes.
const maxMetadata = 64 << 20

// maxDictionaries is how many bytes of dictionaries are read.
const maxDictionaries = 64 << 20

// File is an open stream, or a file in the IPC format, which begins with one. Its methods may be called from several
// goroutines at once.
type File struct {
	Fields  []*Field
	Batches []Batch

	r            io.ReaderAt
	dictionaries map[int64][]Value
}

// Batch is a run of rows.
type Batch struct {
	Rows    int64
	nodes   []int64 // rows of each node
	buffers []span
}

// span is a run of bytes of the file.
type span struct{ offset, size int64 }

// Kinds of messages.
const (
	schemaMessage     = 1
	dictionaryMessage = 2
	batchMessage      = 3
)

// message is a message's description, and where its body lies.
type message struct {
	kind int64
	t    table
	body span
	end  int64
}

// Open reads the descriptions of all record batches of a file of the given size. It fails for compressed batches and
// for types of columns that divide batches in ways that are not read.
func Open(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, dictionaries: map[int64][]Value{}}
	var encoded map[int64]*Field
	at := int64(0)
	var magic [8]byte
	if n, _ := r.ReadAt(magic[:], 0); n == len(magic) && string(magic[:6]) == "ARROW1" {
		at = int64(len(magic))
	}
	for {
		m, err := readMessage(r, at, size)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("message at byte %d: %w", at, err)
		}
		switch {
		case m.kind == schemaMessage && f.Fields == nil:
			var s schema
			if f.Fields, err = s.read(m.t); err == nil {
				encoded = map[int64]*Field{}
				collect(f.Fields, encoded)
			}
		case f.Fields == nil:
			err = errors.New("no schema: truncated or no arrow stream")
		case m.kind == dictionaryMessage:
			err = f.readDictionary(m, encoded)
		case m.kind == batchMessage:
			var b Batch
			if b, err = readBatch(m.t, m.body); err == nil {
				f.Batches = append(f.Batches, b)
			}
		default:
			err = fmt.Errorf("kind %d: truncated or no arrow stream", m.kind)
		}
		if err == nil && m.t.b.damaged {
			err = errDamaged
		}
		if err != nil {
			return nil, fmt.Errorf("message at byte %d: %w", at, err)
		}
		at = m.end
	}
	if f.Fields == nil {
		return nil, errors.New("no schema: truncated or no arrow stream")
	}
	return f, nil
}

// collect finds the fields that dictionaries encode.
func collect(fields []*Field, encoded map[int64]*Field) {
	for _, f := range fields {
		if f.encoded {
			encoded[f.dictionary] = f
		}
		collect(f.Children, encoded)
	}
}

// readMessage reads the message at a place: the size of its description, the description, and after it the body. It
// returns io.EOF at the end of the stream.
func readMessage(r io.ReaderAt, at, size int64) (m message, err error) {
	if at == size {
		return m, io.EOF
	}
	var prefix [8]byte
	if size-at < int64(len(prefix)) {
		if _, err := r.ReadAt(prefix[:4], at); size-at == 4 && err == nil && prefix == [8]byte{} {
			return m, io.EOF // streams of older versions end so
		}
		return m, errors.New("truncated")
	}
	if _, err := r.ReadAt(prefix[:], at); err != nil {
		return m, err
	}
	length, start := int64(binary.LittleEndian.Uint32(prefix[4:])), at+8
	if mark := binary.LittleEndian.Uint32(prefix[:]); mark != 0xffffffff { // versions before 0.15 have no mark
		length, start = int64(mark), at+4
	}
	switch {
	case length == 0:
		return m, io.EOF
	case length > maxMetadata || length > size-start:
		return m, fmt.Errorf("a description of %d bytes, %d follow: truncated or no arrow stream", length, size-start)
	}
	b := &buffer{raw: make([]byte, length)}
	if _, err := r.ReadAt(b.raw, start); err != nil {
		return m, err
	}
	root := b.root()
	m.kind = root.number(1, 1)
	m.body = span{start + length, root.number(3, 8)}
	m.t, _ = root.table(2)
	m.t.b = b
	m.end = m.body.offset + m.body.size
	switch {
	case b.damaged:
		return m, errDamaged
	case m.body.size < 0 || m.body.size > size-m.body.offset:
		return m, fmt.Errorf("a body of %d bytes, %d follow: truncated", m.body.size, size-m.body.offset)
	}
	return m, nil
}

// readBatch reads a RecordBatch table.
func readBatch(t table, body span) (Batch, error) {
	if _, compressed := t.table(3); compressed {
		return Batch{}, errors.New("a compressed record batch: rows are read where they lie, so save it without " +
			"compression, or as parquet")
	}
	b := Batch{Rows: t.number(0, 8)}
	const pair = 16 // bytes of two numbers
	at, n := t.vector(1, pair)
	for i := range n {
		b.nodes = append(b.nodes, int64(binary.LittleEndian.Uint64(t.b.bytes(at+pair*i, 8))))
	}
	at, n = t.vector(2, pair)
	for i := range n {
		raw := t.b.bytes(at+pair*i, pair)
		s := span{int64(binary.LittleEndian.Uint64(raw)), int64(binary.LittleEndian.Uint64(raw[8:]))}
		if s.offset < 0 || s.size < 0 || s.offset > body.size || s.size > body.size-s.offset {
			return b, fmt.Errorf("buffer %d: %d bytes at %d lie outside the body of %d: damaged", i, s.size, s.offset,
				body.size)
		}
		s.offset += body.offset
		b.buffers = append(b.buffers, s)
	}
	if b.Rows < 0 {
		return b, fmt.Errorf("%d rows: damaged", b.Rows)
	}
	return b, nil
}

// readDictionary reads the values that a dictionary message gives or adds.
func (f *File) readDictionary(m message, encoded map[int64]*Field) error {
	id := m.t.number(0, 8)
	field := encoded[id]
	records, ok := m.t.table(1)
	if field == nil || !ok {
		return fmt.Errorf("dictionary %d is of no column: damaged", id)
	}
	if field.Kind != Binary && field.Kind != String {
		return nil // such a column is not read
	}
	b, err := readBatch(records, m.body)
	if err != nil {
		return err
	}
	if m.body.size > maxDictionaries || b.Rows > maxDictionaries {
		return fmt.Errorf("dictionary %d has %d bytes: at most %d are read", id, m.body.size, maxDictionaries)
	}
	values := &Field{Name: field.Name, Kind: field.Kind, bits: wide(field.typeName)}
	list, err := f.read(b, values, 0, b.Rows, maxDictionaries)
	if err != nil {
		return fmt.Errorf("dictionary %d: %w", id, err)
	}
	if m.t.number(2, 1) != 0 {
		list = append(f.dictionaries[id], list...)
	}
	f.dictionaries[id] = list
	return nil
}

// wide are the bits of offsets of the types whose values have any length.
func wide(typeName string) int {
	for _, t := range types {
		if t.name == typeName {
			return t.bits
		}
	}
	return 0
}
