package parquetfile

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// Kind is what a column holds.
type Kind int

// The kinds of columns that are written. A value of each may be absent.
const (
	Pictures Kind = iota // an [Image]: struct<bytes: binary, path: string>, which the datasets library knows as Image
	Text                 // a string
	Texts                // a []string
)

// Column is a column of a file that is written.
type Column struct {
	Name string
	Kind Kind
}

// Image is an image file. Path names it; it does not say where it lies.
type Image struct {
	Bytes []byte
	Path  string
}

const (
	rowsPerGroup  = 1024     // the rows to search for one row without a page index
	bytesPerGroup = 64 << 20 // held in memory until the group is written
	pageBytes     = 64 << 10 // few images, so that one row costs little to read
)

// Writer writes a parquet file in the layout of the datasets library: its columns in their order, its metadata by which
// Image features are recognised. The rows of a group are held in memory until it is written: at most 1024, and of 64
// MiB and one row more. Equal rows give the same bytes.
type Writer struct {
	columns []Column
	out     *parquet.GenericWriter[any]
	held    int64 // bytes of rows that are not written yet
	row     parquet.Row
}

// NewWriter begins a file of the given columns. by names the part of limner that writes it, metadata are pairs of keys
// and values beside the features. It fails if two columns have the same name.
func NewWriter(w io.Writer, by string, columns []Column, metadata ...[2]string) (*Writer, error) {
	var names []string
	for _, c := range columns {
		if c.Name == "" || slices.Contains(names, c.Name) {
			return nil, fmt.Errorf("two columns of the name %q, or one without a name", c.Name)
		}
		names = append(names, c.Name)
	}
	features, err := features(columns)
	if err != nil {
		return nil, err
	}
	options := []parquet.WriterOption{
		parquet.CreatedBy("limner", "1", by),
		parquet.KeyValueMetadata("huggingface", features),
		parquet.MaxRowsPerRowGroup(rowsPerGroup),
		parquet.PageBufferSize(pageBytes),
		parquet.NewSchema("schema", inOrder(columns)),
	}
	for _, pair := range metadata {
		options = append(options, parquet.KeyValueMetadata(pair[0], pair[1]))
	}
	for _, c := range columns {
		if c.Kind == Pictures { // whose least and largest value would be written several times over
			options = append(options,
				parquet.SkipPageBounds(c.Name, "bytes"), parquet.SkipPageStatistics(c.Name, "bytes"))
		}
	}
	return &Writer{columns: columns, out: parquet.NewGenericWriter[any](w, options...)}, nil
}

// features is the schema metadata by which the datasets library recognises columns of images.
func features(columns []Column) (string, error) {
	const text = `{"dtype": "string", "_type": "Value"}`
	var parts []string
	for _, c := range columns {
		name, err := json.Marshal(c.Name)
		if err != nil {
			return "", err
		}
		feature := map[Kind]string{
			Pictures: `{"_type": "Image"}`,
			Text:     text,
			Texts:    `{"feature": ` + text + `, "_type": "List"}`,
		}[c.Kind]
		parts = append(parts, string(name)+": "+feature)
	}
	return `{"info": {"features": {` + strings.Join(parts, ", ") + `}}}`, nil
}

// node is the column's place in the schema.
func (c Column) node() parquet.Node {
	text := func() parquet.Node {
		return parquet.Optional(parquet.Compressed(parquet.Encoded(parquet.String(), &parquet.Plain), &parquet.Snappy))
	}
	switch c.Kind {
	case Pictures:
		part := func(leaf parquet.Node) parquet.Node {
			return parquet.Optional(parquet.Compressed(parquet.Encoded(leaf, &parquet.Plain), &parquet.Uncompressed))
		}
		return parquet.Optional(parquet.Group{
			"bytes": part(parquet.Leaf(parquet.ByteArrayType)), "path": part(parquet.String()),
		})
	case Texts:
		return parquet.Optional(parquet.List(text()))
	}
	return text()
}

// ordered is a group whose fields stand in the order of the columns: those of a parquet.Group are sorted by name.
type ordered struct {
	parquet.Group
	fields []parquet.Field
}

// Fields implements parquet.Node.
func (o ordered) Fields() []parquet.Field { return o.fields }

func inOrder(columns []Column) parquet.Node {
	o := ordered{Group: parquet.Group{}}
	place := map[string]int{}
	for i, c := range columns {
		o.Group[c.Name], place[c.Name] = c.node(), i
	}
	o.fields = o.Group.Fields()
	slices.SortFunc(o.fields, func(a, b parquet.Field) int { return place[a.Name()] - place[b.Name()] })
	return o
}

// Write appends a row: for each column in their order an Image, a string or a []string, or nil.
func (w *Writer) Write(row ...any) error {
	if len(row) != len(w.columns) {
		return fmt.Errorf("a row of %d values for %d columns", len(row), len(w.columns))
	}
	w.row = w.row[:0]
	leaf := 0
	add := func(value parquet.Value, repetition, definition int) {
		w.row = append(w.row, value.Level(repetition, definition, leaf))
		w.held += int64(len(value.ByteArray()))
	}
	for i, c := range w.columns {
		switch value := row[i].(type) {
		case nil:
			add(parquet.NullValue(), 0, 0)
			if c.Kind == Pictures {
				leaf++
				add(parquet.NullValue(), 0, 0)
			}
		case Image:
			add(parquet.ByteArrayValue(value.Bytes), 0, 2)
			leaf++
			add(parquet.ByteArrayValue([]byte(value.Path)), 0, 2)
		case string:
			add(parquet.ByteArrayValue([]byte(value)), 0, 1)
		case []string:
			if len(value) == 0 {
				add(parquet.NullValue(), 0, 1)
			}
			for k, text := range value {
				add(parquet.ByteArrayValue([]byte(text)), min(k, 1), 3)
			}
		}
		if !c.fits(row[i]) {
			return fmt.Errorf("column %s cannot hold a %T", c.Name, row[i])
		}
		leaf++
	}
	if _, err := w.out.WriteRows([]parquet.Row{w.row}); err != nil {
		return err
	}
	if w.held < bytesPerGroup {
		return nil
	}
	w.held = 0
	return w.out.Flush()
}

// fits says whether a column can hold a value.
func (c Column) fits(value any) (ok bool) {
	switch value.(type) {
	case nil:
		return true
	case Image:
		return c.Kind == Pictures
	case string:
		return c.Kind == Text
	case []string:
		return c.Kind == Texts
	}
	return false
}

// Close writes the last rows and the footer. It does not close what the file is written to.
func (w *Writer) Close() error { return w.out.Close() }
