package data

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/parquetfile"
)

// shard is an open parquet file.
type shard struct {
	path string
	f    *os.File
	file *parquet.File
	size int64

	mu      sync.Mutex
	checked map[[2]int]func() error // columns of row groups, by both indices
}

// checkPages fails for a column of a row group whose pages claim too much; it is checked once.
func (s *shard) checkPages(group int, l leaf) error {
	s.mu.Lock()
	key := [2]int{group, l.index}
	check := s.checked[key]
	if check == nil {
		check = sync.OnceValue(func() error {
			return parquetfile.Recovered(func() error {
				meta := &s.file.Metadata().RowGroups[group].Columns[l.index].MetaData
				return parquetfile.CheckPages(s.f, meta, l.repetition, l.present)
			})
		})
		s.checked[key] = check
	}
	s.mu.Unlock()
	return check()
}

// openShard opens a parquet file and reads its footer.
func openShard(path string) (*shard, error) {
	f, size, err := disk.OpenSize(path)
	if err != nil {
		return nil, err // names the path
	}
	file, err := parquetfile.Open(f, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	return &shard{path: path, f: f, file: file, size: size, checked: map[[2]int]func() error{}}, nil
}

// Close closes the file.
func (s *shard) Close() error { return s.f.Close() }

// imageColumn is a column of images; bytes or path is nil if it lacks them.
type imageColumn struct {
	name        string
	bytes, path *leaf
}

// leaf is a column that is read: its index in each row group, and the definition level at which its values are present.
type leaf struct {
	name    string // the column's, as the user knows it
	index   int
	present int
	limit   int // most bytes of a value
	list    bool
	// repetition is the largest repetition level: 0 but for lists.
	repetition int
	newPage    func() // is called before each page; nil: nothing is
}

// imageColumn finds an image column: a struct with the fields bytes and path, as the datasets library writes it, plain
// bytes, or strings, which are paths.
func (s *shard) imageColumn(name string) (imageColumn, error) {
	const want = "an image (struct<bytes: binary, path: string>, binary, or strings that are paths)"
	c := imageColumn{name: name}
	column := s.file.Root().Column(name)
	if column == nil {
		return c, s.missing(name)
	}
	if column.Leaf() {
		l, err := s.binaryLeaf(name, column, imaging.MaxFileBytes, want)
		if isText(column) {
			l.limit = maxPath
			c.path = &l
		} else {
			c.bytes = &l
		}
		return c, err
	}
	content := column.Column("bytes")
	if content == nil {
		return c, fmt.Errorf("%s: column %s is no image: want struct<bytes: binary, path: string> or binary, "+
			"got %s", s.path, name, describe(column))
	}
	l, err := s.binaryLeaf(name, content, imaging.MaxFileBytes, want)
	c.bytes = &l
	if path := column.Column("path"); path != nil && err == nil {
		if l, err := s.binaryLeaf(name, path, maxPath, want); err == nil {
			c.path = &l
		}
	}
	return c, err
}

// isText says whether a column's bytes are a string's.
func isText(column *parquet.Column) bool {
	logical := column.Type().LogicalType()
	if logical == nil {
		return false
	}
	_, text := logical.Value.(*format.StringType)
	return text
}

// captionLeaf finds a column of strings, or of lists of strings.
func (s *shard) captionLeaf(name string) (leaf, error) {
	column := s.file.Root().Column(name)
	if column == nil {
		return leaf{}, s.missing(name)
	}
	if element := listElement(column); element != nil {
		return leaf{
			name: name, index: element.Index(), present: element.MaxDefinitionLevel(), limit: maxCaption, list: true,
			repetition: element.MaxRepetitionLevel(),
		}, nil
	}
	return s.binaryLeaf(name, column, maxCaption, "text or a list of texts")
}

// listElement is the column of a list's strings; nil if the column is no list of strings.
func listElement(column *parquet.Column) *parquet.Column {
	for depth := 0; !column.Leaf() && depth < 2; depth++ { // list<string> is a group list of a repeated group element
		if len(column.Columns()) != 1 {
			return nil
		}
		column = column.Columns()[0]
	}
	if !column.Leaf() || column.Type().Kind() != parquet.ByteArray || column.MaxRepetitionLevel() != 1 {
		return nil
	}
	return column
}

// textLeaf finds a column whose values have a short text: strings, numbers and truth values.
func (s *shard) textLeaf(name string) (leaf, bool) {
	column := s.file.Root().Column(name)
	if column == nil || !column.Leaf() || column.MaxRepetitionLevel() > 0 {
		return leaf{}, false
	}
	switch column.Type().Kind() {
	case parquet.Boolean, parquet.Int32, parquet.Int64, parquet.Float, parquet.Double, parquet.ByteArray:
		return leaf{name: name, index: column.Index(), present: column.MaxDefinitionLevel(), limit: maxCaption}, true
	}
	return leaf{}, false
}

// textOf writes a value as text; ok is false for null and for what is no text.
func textOf(v parquet.Value, limit int) (text string, ok bool) {
	switch {
	case v.IsNull():
		return "", false
	case v.Kind() == parquet.Float:
		return strconv.FormatFloat(float64(v.Float()), 'g', -1, 32), true
	case v.Kind() == parquet.Double:
		return strconv.FormatFloat(v.Double(), 'g', -1, 64), true
	case v.Kind() == parquet.ByteArray:
		raw := v.ByteArray()
		return string(raw), len(raw) <= limit && utf8.Valid(raw)
	}
	return v.String(), true
}

func (s *shard) binaryLeaf(name string, column *parquet.Column, limit int, want string) (leaf, error) {
	if !column.Leaf() || column.Type().Kind() != parquet.ByteArray || column.MaxRepetitionLevel() > 0 {
		return leaf{}, fmt.Errorf("%s: column %s is not %s but %s", s.path, name, want, describe(column))
	}
	return leaf{name: name, index: column.Index(), present: column.MaxDefinitionLevel(), limit: limit}, nil
}

func (s *shard) missing(name string) error {
	var have []string
	for _, c := range s.file.Root().Columns() {
		have = append(have, fmt.Sprintf("%s (%s)", c.Name(), describe(c)))
	}
	return missingColumn(s.path, name, have)
}

// missingColumn is the error for a column that a file lacks.
func missingColumn(path, name string, have []string) error {
	return fmt.Errorf("%s has no column %q; it has %s: "+
		"name the right one with image_column, conditioning_image_column or caption_column",
		filepath.Base(path), name, strings.Join(have, ", "))
}

// describe names a column's type in a word or two.
func describe(c *parquet.Column) string {
	kind := "struct"
	if c.Leaf() {
		kind = strings.ToLower(c.Type().String())
	} else {
		var fields []string
		for _, f := range c.Columns() {
			fields = append(fields, f.Name())
		}
		kind += "<" + strings.Join(fields, ", ") + ">"
	}
	if c.Repeated() || c.MaxRepetitionLevel() > 0 {
		return "list of " + kind
	}
	return kind
}
