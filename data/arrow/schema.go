package arrow

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is what the values of a field are.
type Kind int

// Kinds of values. Those that have no text and no bytes are Other.
const (
	Other Kind = iota
	Binary
	String
	Integer
	Float
	Bool
	Struct
	List
	null
)

// Limits of a schema, beyond what any dataset has.
const (
	maxFields = 10_000
	maxDepth  = 32
)

// Field is a column, or a part of one.
type Field struct {
	Name     string
	Kind     Kind
	Children []*Field // of structs and lists

	typeName   string
	bits       int   // of numbers and offsets
	unsigned   bool  // of integers
	dictionary int64 // its identity if values are indices into one
	encoded    bool  // by a dictionary
	node       int   // its index among the nodes of a batch
	buffer     int   // that of its first buffer among those of a batch
}

// Child is the part of a struct that has the name; nil if there is none.
func (f *Field) Child(name string) *Field {
	for _, child := range f.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

// String describes the type of a field.
func (f *Field) String() string {
	var children []string
	for _, child := range f.Children {
		children = append(children, child.Name)
	}
	switch f.Kind {
	case Struct:
		return "struct<" + strings.Join(children, ", ") + ">"
	case List:
		if len(f.Children) == 1 {
			return "list of " + f.Children[0].String()
		}
	}
	return f.typeName
}

// arrowType is a type in the format: how a field of it is laid out.
type arrowType struct {
	name    string
	kind    Kind
	bits    int
	buffers int
}

// types are the types by their number in the format's Schema.fbs. Those that are missing divide a batch in other ways.
var types = map[int64]arrowType{
	1:  {"null", null, 0, 0},
	2:  {"int", Integer, 0, 2},
	3:  {"float", Float, 0, 2},
	4:  {"binary", Binary, 32, 3},
	5:  {"string", String, 32, 3},
	6:  {"bool", Bool, 1, 2},
	7:  {"decimal", Other, 0, 2},
	8:  {"date", Other, 0, 2},
	9:  {"time", Other, 0, 2},
	10: {"timestamp", Other, 0, 2},
	11: {"interval", Other, 0, 2},
	12: {"list", List, 32, 2},
	13: {"struct", Struct, 0, 1},
	15: {"fixed-size binary", Other, 0, 2},
	16: {"fixed-size list", Other, 0, 1},
	17: {"map", Other, 32, 2},
	18: {"duration", Other, 0, 2},
	19: {"large binary", Binary, 64, 3},
	20: {"large string", String, 64, 3},
	21: {"large list", List, 64, 2},
}

// schema reads fields and counts their nodes and buffers.
type schema struct {
	fields, nodes, buffers int
}

// read reads the fields of a Schema table.
func (s *schema) read(t table) ([]*Field, error) {
	if t.number(0, 2) != 0 {
		return nil, errors.New("numbers of the other endianness are not read")
	}
	var fields []*Field
	for _, child := range t.tables(1) {
		f, err := s.field(child, 0)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// field reads a Field table and those below it.
func (s *schema) field(t table, depth int) (*Field, error) {
	if s.fields++; s.fields > maxFields || depth > maxDepth {
		return nil, errors.New("damaged schema: too many fields")
	}
	f := &Field{Name: t.text(0), node: s.nodes, buffer: s.buffers}
	number := t.number(2, 1)
	kind, ok := types[number]
	if !ok {
		return nil, fmt.Errorf("column %q is of a type that is not read (number %d of the format): "+
			"leave it out, or save the dataset as parquet", f.Name, number)
	}
	f.Kind, f.typeName, f.bits = kind.kind, kind.name, kind.bits
	details, _ := t.table(3)
	switch f.Kind {
	case Integer:
		f.bits, f.unsigned = int(details.number(0, 4)), details.number(1, 1) == 0
	case Float:
		f.bits = 16 << details.number(0, 2)
	}
	buffers := kind.buffers
	if encoding, ok := t.table(4); ok {
		f.dictionary, f.encoded = encoding.number(0, 8), true
		f.bits, buffers = 32, 2
		if index, ok := encoding.table(1); ok {
			f.bits, f.unsigned = int(index.number(0, 4)), index.number(1, 1) == 0
		}
	}
	s.nodes, s.buffers = s.nodes+1, s.buffers+buffers
	below := s
	if f.encoded {
		below = &schema{fields: s.fields} // the children are laid out in the dictionary
	}
	for _, child := range t.tables(5) {
		c, err := below.field(child, depth+1)
		if err != nil {
			return nil, err
		}
		f.Children = append(f.Children, c)
	}
	s.fields = below.fields
	return f, nil
}
