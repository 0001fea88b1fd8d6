package data

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"

	"limner/internal/parquetfile"
	"limner/internal/plaintext"
)

// rawRow is an encoded row, with the reason if it cannot be used.
type rawRow struct {
	image, condition, mask []byte
	caption                string
	err                    error
}

// fail keeps the first reason.
func (r *rawRow) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// columns are the leaves that a dataset reads from one file; those that are not needed are nil.
type columns struct {
	image                    leaf
	condition, mask, caption *leaf
}

// parquetTable is an open parquet file with the columns that are read from it.
type parquetTable struct {
	*shard
	columns columns
	sizes   []group
}

func openParquetTable(path string, o Options) (table, error) {
	s, err := openShard(path)
	if err != nil {
		return nil, err
	}
	t := &parquetTable{shard: s}
	if t.columns, err = s.columns(o); err == nil {
		t.sizes, err = s.sizes(t.columns)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return t, nil
}

func (t *parquetTable) path() string    { return t.shard.path }
func (t *parquetTable) groups() []group { return t.sizes }

func (t *parquetTable) readRows(group int, first, count int64) []rawRow {
	return t.shard.readRows(group, t.columns, first, count)
}

// needed are the columns' indices in the file.
func (c columns) needed() []int {
	needed := []int{c.image.index}
	for _, l := range []*leaf{c.condition, c.mask, c.caption} {
		if l != nil {
			needed = append(needed, l.index)
		}
	}
	return needed
}

// sizes are the rows and the approximate bytes of each row group.
func (s *shard) sizes(c columns) ([]group, error) {
	needed := c.needed()
	var sizes []group
	groups := s.file.Metadata().RowGroups
	for g := range groups {
		size := group{rows: groups[g].NumRows}
		for _, column := range needed {
			if column >= len(groups[g].Columns) {
				return nil, fmt.Errorf("%s: row group %d has %d columns, the schema more: damaged",
					s.path, g, len(groups[g].Columns))
			}
			meta := &groups[g].Columns[column].MetaData
			if meta.NumValues != size.rows {
				return nil, fmt.Errorf("%s: row group %d has %d rows, its column %s %d values: damaged",
					s.path, g, size.rows, strings.Join(meta.PathInSchema, "."), meta.NumValues)
			}
			size.bytes += meta.TotalUncompressedSize
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

func (s *shard) columns(o Options) (columns, error) {
	var c columns
	var err error
	if c.image, err = s.imageLeaf(o.ImageColumn); err != nil {
		return c, err
	}
	take := func(to **leaf, find func(string) (leaf, error), name string, needed bool) {
		if err == nil && needed {
			var l leaf
			l, err = find(name)
			*to = &l
		}
	}
	take(&c.condition, s.imageLeaf, o.ConditioningImageColumn, o.NeedConditioning)
	take(&c.mask, s.imageLeaf, o.MaskColumn, o.MaskColumn != "")
	take(&c.caption, s.captionLeaf, o.CaptionColumn, !o.NoCaptions)
	return c, err
}

// readRows reads count rows of a row group, from row first. Rows that cannot be read carry the reason.
func (s *shard) readRows(group int, c columns, first, count int64) []rawRow {
	rows := make([]rawRow, count)
	images := func(l *leaf, place func(*rawRow) *[]byte) {
		if l == nil {
			return
		}
		s.readLeaf(group, *l, first, count, func(i int, v []byte, err error) {
			if err == nil && len(v) == 0 {
				err = fmt.Errorf("%s has zero bytes", l.name)
			}
			if err != nil {
				rows[i].fail(err)
			}
			*place(&rows[i]) = v
		})
	}
	images(&c.image, func(r *rawRow) *[]byte { return &r.image })
	images(c.condition, func(r *rawRow) *[]byte { return &r.condition })
	images(c.mask, func(r *rawRow) *[]byte { return &r.mask })
	if c.caption != nil {
		s.readLeaf(group, *c.caption, first, count, func(i int, v []byte, err error) {
			if err == nil {
				if v, err = plaintext.Decode(v); err != nil {
					err = fmt.Errorf("%s: %w", c.caption.name, err)
				}
			}
			if err != nil {
				rows[i].fail(err)
			}
			rows[i].caption = string(v)
		})
	}
	return rows
}

// readLeaf calls yield once for each of the rows, with its value or the reason why there is none. Rows before the place
// where a column breaks off are still yielded.
func (s *shard) readLeaf(group int, l leaf, first, count int64, yield func(i int, v []byte, err error)) {
	next := 0
	err := parquetfile.Recovered(func() error {
		pages := s.file.RowGroups()[group].ColumnChunks()[l.index].Pages()
		defer pages.Close()
		if err := pages.SeekToRow(first); err != nil {
			return err
		}
		var values [64]parquet.Value
		for int64(next) < count {
			page, err := pages.ReadPage()
			if errors.Is(err, io.EOF) {
				return errors.New("the column ends early")
			}
			if err != nil {
				return err
			}
			for reader := page.Values(); int64(next) < count; {
				n, err := reader.ReadValues(values[:min(int64(len(values)), count-int64(next))])
				for _, v := range values[:n] {
					switch raw := v.ByteArray(); {
					case v.IsNull():
						yield(next, nil, nullReason(l, v.DefinitionLevel()))
					case len(raw) > l.limit:
						yield(next, nil, fmt.Errorf("%s: %d bytes: at most %d are read", l.name, len(raw), l.limit))
					default:
						yield(next, bytes.Clone(raw), nil)
					}
					next++
				}
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
				if n == 0 {
					return errors.New("a page yields no values")
				}
			}
			parquet.Release(page)
		}
		return nil
	})
	for ; int64(next) < count; next++ {
		yield(next, nil, fmt.Errorf("%s, row group %d: %w", l.name, group, err))
	}
}

// nullReason distinguishes a null image from one whose bytes alone are null, which at most has a path.
func nullReason(l leaf, level int) error {
	if level > 0 && level == l.present-1 {
		return fmt.Errorf("%s has null bytes (a path alone is not followed)", l.name)
	}
	return fmt.Errorf("%s is null", l.name)
}
