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
	captions               []string
	extra                  map[string]string // the columns of Options.Extra that the row has
	err                    error
}

// addExtra keeps a further column.
func (r *rawRow) addExtra(name, text string) {
	if r.extra == nil {
		r.extra = map[string]string{}
	}
	r.extra[name] = text
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
	extra                    []leaf
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
	for _, l := range c.extra {
		needed = append(needed, l.index)
	}
	return needed
}

// lists are the columns with several values a row.
func (c columns) lists() map[int]bool {
	if c.caption != nil && c.caption.list {
		return map[int]bool{c.caption.index: true}
	}
	return nil
}

// sizes are the rows and the approximate bytes of each row group.
func (s *shard) sizes(c columns) ([]group, error) {
	needed, lists := c.needed(), c.lists()
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
			if meta.NumValues != size.rows && !(lists[column] && meta.NumValues > size.rows) {
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
	take(&c.condition, s.imageLeaf, o.ConditioningImageColumn, o.readsConditioning())
	take(&c.mask, s.imageLeaf, o.MaskColumn, o.MaskColumn != "")
	take(&c.caption, s.captionLeaf, o.CaptionColumn, !o.NoCaptions)
	for _, name := range o.Extra {
		if l, ok := s.textLeaf(name); ok {
			c.extra = append(c.extra, l)
		}
	}
	return c, err
}

// readRows reads count rows of a row group, from row first. Rows that cannot be read carry the reason.
func (s *shard) readRows(group int, c columns, first, count int64) []rawRow {
	rows := make([]rawRow, count)
	images := func(l *leaf, place func(*rawRow) *[]byte) {
		if l == nil {
			return
		}
		s.readBytes(group, *l, first, count, func(i int, v []byte, err error) {
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
		s.readCaptions(group, *c.caption, first, rows)
	}
	for _, l := range c.extra {
		s.readLeaf(group, l, first, count, func(i int, v parquet.Value, err error) {
			switch text, ok := textOf(v, l.limit); {
			case err != nil:
				rows[i].fail(err)
			case ok:
				rows[i].addExtra(l.name, text)
			}
		})
	}
	return rows
}

// readCaptions reads the captions of rows, which begin at row first of the group.
func (s *shard) readCaptions(group int, l leaf, first int64, rows []rawRow) {
	s.readBytes(group, l, first, int64(len(rows)), func(i int, v []byte, err error) {
		if err == nil {
			if v, err = plaintext.Decode(v); err != nil {
				err = fmt.Errorf("%s: %w", l.name, err)
			}
		}
		if len(rows[i].captions) == maxCaptions {
			err = fmt.Errorf("%s: more than %d captions", l.name, maxCaptions)
		}
		if err != nil {
			rows[i].fail(err)
			return
		}
		rows[i].captions = append(rows[i].captions, string(v))
	})
}

// readBytes calls yield for each of the rows, with the bytes of its value or the reason why there are none; for a
// column of lists as often as the row has values, at least once.
func (s *shard) readBytes(group int, l leaf, first, count int64, yield func(i int, v []byte, err error)) {
	s.readLeaf(group, l, first, count, func(i int, v parquet.Value, err error) {
		switch raw := v.ByteArray(); {
		case err != nil:
			yield(i, nil, err)
		case v.IsNull():
			yield(i, nil, nullReason(l, v.DefinitionLevel()))
		case len(raw) > l.limit:
			yield(i, nil, fmt.Errorf("%s: %d bytes: at most %d are read", l.name, len(raw), l.limit))
		default:
			yield(i, bytes.Clone(raw), nil)
		}
	})
}

// readLeaf calls yield for each of the rows, with its value, which is valid until yield returns, or the reason why it
// cannot be read; for a column of lists as often as the row has values, at least once. Rows before the place where a
// column breaks off are still yielded.
func (s *shard) readLeaf(group int, l leaf, first, count int64, yield func(i int, v parquet.Value, err error)) {
	next := int64(0) // the row of the next value, from first
	err := parquetfile.Recovered(func() error {
		pages := s.file.RowGroups()[group].ColumnChunks()[l.index].Pages()
		defer pages.Close()
		if l.list {
			next = -first // where a row begins in a page of lists is known from the values before it
		} else if err := pages.SeekToRow(first); err != nil {
			return err
		}
		next--
		var values [64]parquet.Value
		for {
			page, err := pages.ReadPage()
			if errors.Is(err, io.EOF) && next == count-1 {
				return nil
			} else if errors.Is(err, io.EOF) {
				return errors.New("the column ends early")
			} else if err != nil {
				return err
			}
			done, err := readPage(page, values[:], &next, count, yield)
			parquet.Release(page)
			if done || err != nil || !l.list && next == count-1 {
				return err
			}
		}
	})
	for next = max(next+1, 0); next < count; next++ {
		yield(int(next), parquet.Value{}, fmt.Errorf("%s, row group %d: %w", l.name, group, err))
	}
}

// readPage yields the values of a page of rows from 0 to count. next is the row of the value before it.
func readPage(page parquet.Page, values []parquet.Value, next *int64, count int64,
	yield func(i int, v parquet.Value, err error)) (done bool, err error) {
	for reader := page.Values(); ; {
		n, err := reader.ReadValues(values)
		for _, v := range values[:n] {
			if v.RepetitionLevel() == 0 {
				if *next == count-1 {
					return true, nil
				}
				*next++
			}
			if *next >= 0 {
				yield(int(*next), v, nil)
			}
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if n == 0 {
			return false, errors.New("a page yields no values")
		}
	}
}

// nullReason distinguishes a null image from one whose bytes alone are null, which at most has a path.
func nullReason(l leaf, level int) error {
	if level > 0 && level == l.present-1 {
		return fmt.Errorf("%s has null bytes (a path alone is not followed)", l.name)
	}
	return fmt.Errorf("%s is null", l.name)
}
