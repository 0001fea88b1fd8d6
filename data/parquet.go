package data

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/parquet-go/parquet-go"

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
	return &shard{path: path, f: f, file: file, size: size}, nil
}

// Close closes the file.
func (s *shard) Close() error { return s.f.Close() }

// leaf is a column that is read: its index in each row group, and the definition level at which its values are present.
type leaf struct {
	name    string // the column's, as the user knows it
	index   int
	present int
	limit   int // most bytes of a value
}

// imageLeaf finds an image column: a struct with a field bytes, as the datasets library writes it,
// or plain bytes.
func (s *shard) imageLeaf(name string) (leaf, error) {
	column := s.file.Root().Column(name)
	if column == nil {
		return leaf{}, s.missing(name)
	}
	at := column
	if !column.Leaf() {
		if at = column.Column("bytes"); at == nil {
			return leaf{}, fmt.Errorf("%s: column %s is no image: want struct<bytes: binary, path: string> or binary, "+
				"got %s", s.path, name, describe(column))
		}
	}
	return s.binaryLeaf(name, at, imaging.MaxFileBytes, "an image (struct<bytes: binary, path: string> or binary)")
}

// captionLeaf finds a column of strings.
func (s *shard) captionLeaf(name string) (leaf, error) {
	column := s.file.Root().Column(name)
	if column == nil {
		return leaf{}, s.missing(name)
	}
	return s.binaryLeaf(name, column, maxCaption, "text")
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
	return fmt.Errorf("%s has no column %q; it has %s: "+
		"name the right one with image_column, conditioning_image_column or caption_column",
		filepath.Base(s.path), name, strings.Join(have, ", "))
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
