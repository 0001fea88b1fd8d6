package data

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/parquet-go/parquet-go"

	"limner/internal/parquetfile"
)

// rawRow is an encoded row, with the reason if it cannot be used.
type rawRow struct {
	image, condition, mask picture
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
	image           imageColumn
	condition, mask *imageColumn
	caption         *leaf
	extra           []leaf
}

// parquetTable is an open parquet file with the columns that are read from it.
type parquetTable struct {
	*shard
	columns columns
	root    *root // of the paths in cells
	sizes   []group
	beside  []string // files that cells name
}

func openParquetTable(path string, o Options) (table, error) {
	s, err := openShard(path)
	if err != nil {
		return nil, err
	}
	t := &parquetTable{shard: s}
	if err = s.checkSizes(o); err == nil {
		t.columns, err = s.columns(o)
	}
	if err == nil {
		t.sizes, err = s.sizes(t.columns)
	}
	if err == nil {
		t.root, err = newRoot(filepath.Dir(path), o.ImageRoot)
	}
	if err == nil {
		err = t.findBeside()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return t, nil
}

// BucketKey is the metadata key by which a parquet file says that its pictures are of several sizes of one area, whose
// side it gives.
const BucketKey = "limner.bucket_area"

// checkSizes fails for a file of pictures of several sizes where batches are asked for, which have one.
func (s *shard) checkSizes(o Options) error {
	area, ok := s.file.Lookup(BucketKey)
	if !ok || o.Resolution == 0 {
		return nil
	}
	return fmt.Errorf("%s has pictures of several sizes (bucket_area %s), and training takes one size: "+
		"build the dataset without --bucket_area, with --resolution %s", s.path, area, area)
}

func (t *parquetTable) path() string    { return t.shard.path }
func (t *parquetTable) groups() []group { return t.sizes }

func (t *parquetTable) describe() (columns, notes []string) {
	for _, c := range t.file.Root().Columns() {
		columns = append(columns, c.Name())
	}
	return columns, nil
}

func (t *parquetTable) readRows(group int, first, count int64) []rawRow {
	return t.shard.readRows(group, t.columns, t.root, first, count)
}

func (t *parquetTable) readCaptions(group int, first, count int64) []rawRow {
	rows := make([]rawRow, count)
	if t.columns.caption != nil {
		t.shard.readCaptions(group, *t.columns.caption, first, rows)
	}
	return rows
}

// findBeside finds the files that cells name in place of bytes.
func (t *parquetTable) findBeside() error {
	for _, c := range t.columns.images() {
		only := columns{image: *c}
		paths, err := besides(t.shard.path, t.sizes, func(g int) bool {
			meta := t.file.Metadata().RowGroups[g].Columns
			return c.bytes == nil ||
				c.path != nil && mayBeEmpty(meta[c.bytes.index].MetaData.TotalUncompressedSize, t.sizes[g].rows)
		}, func(group int, first, count int64) []rawRow {
			return t.shard.readRows(group, only, t.root, first, count)
		})
		if err != nil {
			return err
		}
		t.beside = append(t.beside, paths...)
	}
	return nil
}

// images are the columns of images.
func (c columns) images() []*imageColumn {
	all := []*imageColumn{&c.image}
	for _, m := range []*imageColumn{c.condition, c.mask} {
		if m != nil {
			all = append(all, m)
		}
	}
	return all
}

// needed are the columns' indices in the file; paths of images whose bytes are there are not.
func (c columns) needed() (needed []int) {
	for _, m := range c.images() {
		if m.bytes != nil {
			needed = append(needed, m.bytes.index)
		} else {
			needed = append(needed, m.path.index)
		}
	}
	if c.caption != nil {
		needed = append(needed, c.caption.index)
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

// maxListValues is how many captions are read of a row group.
const maxListValues = 1 << 24

// sizes are the rows and the approximate bytes of each row group.
func (s *shard) sizes(c columns) ([]group, error) {
	needed, lists := c.needed(), c.lists()
	var sizes []group
	groups := s.file.Metadata().RowGroups
	for g := range groups {
		size := group{rows: groups[g].NumRows, repeats: 1}
		for _, column := range needed {
			if column >= len(groups[g].Columns) {
				return nil, fmt.Errorf("%s: row group %d has %d columns, the schema more: damaged",
					s.path, g, len(groups[g].Columns))
			}
			meta := &groups[g].Columns[column].MetaData
			if list := lists[column] && meta.NumValues > size.rows && meta.NumValues <= maxListValues; !list &&
				meta.NumValues != size.rows {
				return nil, fmt.Errorf("%s: row group %d has %d rows, its column %s %d values: damaged",
					s.path, g, size.rows, strings.Join(meta.PathInSchema, "."), meta.NumValues)
			}
			size.bytes += meta.TotalUncompressedSize
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

func (s *shard) columns(o Options) (c columns, err error) {
	if c.image, err = s.imageColumn(o.ImageColumn); err != nil {
		return c, err
	}
	for _, more := range []struct {
		to     **imageColumn
		name   string
		needed bool
	}{
		{&c.condition, o.ConditioningImageColumn, o.readsConditioning()},
		{&c.mask, o.MaskColumn, o.MaskColumn != ""},
	} {
		if more.needed {
			m, err := s.imageColumn(more.name)
			if err != nil {
				return c, err
			}
			*more.to = &m
		}
	}
	if !o.NoCaptions {
		l, err := s.captionLeaf(o.CaptionColumn)
		if err != nil {
			return c, err
		}
		c.caption = &l
	}
	for _, name := range o.Extra {
		if l, ok := s.textLeaf(name); ok {
			c.extra = append(c.extra, l)
		}
	}
	return c, nil
}

// readRows reads count rows of a row group, from row first. Rows that cannot be read carry the reason. Paths in cells
// lie below r.
func (s *shard) readRows(group int, c columns, r *root, first, count int64) []rawRow {
	rows := make([]rawRow, count)
	s.readImages(group, &c.image, r, first, rows, func(r *rawRow) *picture { return &r.image })
	s.readImages(group, c.condition, r, first, rows, func(r *rawRow) *picture { return &r.condition })
	s.readImages(group, c.mask, r, first, rows, func(r *rawRow) *picture { return &r.mask })
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

// readImages reads a column of images, nil for none: their paths only where bytes are null.
func (s *shard) readImages(group int, c *imageColumn, r *root, first int64, rows []rawRow, to func(*rawRow) *picture) {
	if c == nil {
		return
	}
	cells, count, paths := make([]imageCell, len(rows)), int64(len(rows)), c.bytes == nil
	if c.bytes != nil {
		var kept copies
		content := *c.bytes
		content.newPage = kept.newPage
		s.readLeaf(group, content, first, count, func(i int, v parquet.Value, err error) {
			switch raw := v.ByteArray(); {
			case err != nil:
				rows[i].fail(err)
			case v.IsNull():
				cells[i].noBytes = true
				cells[i].null = c.path == nil || v.DefinitionLevel() < c.bytes.present-1
				paths = paths || !cells[i].null
			case len(raw) > c.bytes.limit:
				cells[i].size = int64(len(raw))
			default:
				cells[i].bytes = kept.of(raw)
			}
		})
	}
	if paths {
		s.readLeaf(group, *c.path, first, count, func(i int, v parquet.Value, err error) {
			switch raw := v.ByteArray(); {
			case err != nil:
				rows[i].fail(err)
			case !v.IsNull() && len(raw) <= c.path.limit:
				cells[i].path = string(raw)
			}
			cells[i].noBytes = cells[i].noBytes || c.bytes == nil
			cells[i].null = cells[i].null || c.bytes == nil && v.IsNull()
		})
	}
	for i, cell := range cells {
		if rows[i].err != nil {
			continue
		}
		cell.column = c.name
		var err error
		if *to(&rows[i]), err = cell.picture(r); err != nil {
			rows[i].fail(err)
		}
	}
}

// readCaptions reads the captions of rows, which begin at row first of the group.
func (s *shard) readCaptions(group int, l leaf, first int64, rows []rawRow) {
	s.readLeaf(group, l, first, int64(len(rows)), func(i int, v parquet.Value, err error) {
		if err != nil {
			rows[i].fail(err)
			return
		}
		raw, tooLong := v.ByteArray(), int64(0)
		if len(raw) > l.limit {
			raw, tooLong = nil, int64(len(raw))
		}
		rows[i].addCaption(l.name, raw, v.IsNull(), tooLong)
	})
}

// readLeaf calls yield for each of the rows, with its value, which is valid until yield returns, or the reason why it
// cannot be read; for a column of lists as often as the row has values, at least once. Rows before the place where a
// column breaks off are still yielded.
func (s *shard) readLeaf(group int, l leaf, first, count int64, yield func(i int, v parquet.Value, err error)) {
	next := int64(-1) // the row of the value before, from first
	err := parquetfile.Recovered(func() error {
		if err := s.checkPages(group, l); err != nil {
			return err
		}
		pages := s.file.RowGroups()[group].ColumnChunks()[l.index].Pages()
		defer pages.Close()
		if l.list {
			next = -first - 1 // where a row begins in a page of lists is known from the values before it
		} else if err := pages.SeekToRow(first); err != nil {
			return err
		}
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
			if l.newPage != nil {
				l.newPage()
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
