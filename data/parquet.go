package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"limner/data/imaging"
	"limner/internal/disk"
)

// maxGroupRows is twice what pyarrow writes at most; a group of images has thousands of rows.
const maxGroupRows = 1 << 21

// shard is an open parquet file.
type shard struct {
	path string
	f    *os.File
	file *parquet.File
	size int64
}

// openShard opens a parquet file and reads its footer.
func openShard(path string) (*shard, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, err // names the path
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	file, err := openParquet(f, info.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	return &shard{path: path, f: f, file: file, size: info.Size()}, nil
}

// Close closes the file.
func (s *shard) Close() error { return s.f.Close() }

// openParquet reads the footer, after checking that its size can be true.
func openParquet(r io.ReaderAt, size int64) (file *parquet.File, err error) {
	var tail [8]byte
	if size < int64(len("PAR1")+len(tail)) {
		return nil, fmt.Errorf("%d bytes: not a parquet file, or cut off", size)
	}
	if _, err := r.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return nil, err
	}
	if string(tail[4:]) != "PAR1" {
		return nil, errors.New("no PAR1 at the end: not a parquet file, or cut off")
	}
	if footer := int64(binary.LittleEndian.Uint32(tail[:4])); footer > size-12 {
		return nil, fmt.Errorf("footer of %d bytes in a file of %d: damaged", footer, size)
	}
	err = recovered(func() error {
		var err error
		file, err = parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(256<<10))
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, checkFooter(file, size)
}

// recovered runs f and turns a panic into an error. It is the one place in this package that
// recovers, and it stands at the boundary of parquet-go: its decoder indexes by numbers that it
// takes from the file, so a damaged file makes it panic where it should return an error.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged parquet data (%v)", p)
		}
	}()
	return f()
}

// checkFooter rejects counts and positions that cannot be true of a file of this size, before
// memory is set aside for them.
func checkFooter(file *parquet.File, size int64) error {
	m := file.Metadata()
	var rows int64
	for g := range m.RowGroups {
		group := &m.RowGroups[g]
		if group.NumRows < 0 || group.NumRows > maxGroupRows {
			return fmt.Errorf("row group %d claims %d rows, more than the limit of %d: damaged", g, group.NumRows, maxGroupRows)
		}
		rows += group.NumRows
		for c := range group.Columns {
			meta := &group.Columns[c].MetaData
			start := chunkStart(meta)
			if start < 0 || meta.TotalCompressedSize < 0 || meta.TotalUncompressedSize < 0 || start > size || meta.TotalCompressedSize > size-start {
				return fmt.Errorf("row group %d, column %s: %d bytes at %d lie outside the file of %d: damaged or cut off",
					g, strings.Join(meta.PathInSchema, "."), meta.TotalCompressedSize, start, size)
			}
		}
	}
	if m.NumRows != rows {
		return fmt.Errorf("%d rows in the footer, %d in its row groups: damaged", m.NumRows, rows)
	}
	return nil
}

// chunkStart is where a column of a row group begins.
func chunkStart(meta *format.ColumnMetaData) int64 {
	if meta.DictionaryPageOffset > 0 {
		return min(meta.DataPageOffset, meta.DictionaryPageOffset)
	}
	return meta.DataPageOffset
}

// leaf is a column that is read: its place in each row group, and the definition level at which
// its values are present.
type leaf struct {
	name    string // the column's, as the user knows it
	index   int
	present int
	limit   int // bytes of a value that are read
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
			return leaf{}, fmt.Errorf("%s: column %s is no image: want struct<bytes: binary, path: string> or binary, got %s", s.path, name, describe(column))
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
	return fmt.Errorf("%s has no column %q; it has %s: name the right one with image_column, conditioning_image_column or caption_column",
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
