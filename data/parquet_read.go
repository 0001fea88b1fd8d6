package data

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// rawRow is a row as it lies in the file, with what makes it unusable.
type rawRow struct {
	image, condition []byte
	caption          string
	err              error
}

// fail keeps the first reason.
func (r *rawRow) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// columns are the leaves that a data set reads of one file; condition is nil where it is not needed.
type columns struct {
	image, caption leaf
	condition      *leaf
}

func (s *shard) columns(o Options) (columns, error) {
	var c columns
	var errs [3]error
	c.image, errs[0] = s.imageLeaf(o.ImageColumn)
	if o.NeedConditioning {
		var condition leaf
		condition, errs[1] = s.imageLeaf(o.ConditioningImageColumn)
		c.condition = &condition
	}
	c.caption, errs[2] = s.captionLeaf(o.CaptionColumn)
	for _, err := range errs {
		if err != nil {
			return columns{}, err
		}
	}
	return c, nil
}

// readRows reads count rows of a row group from row first on. Rows that the file does not yield
// carry the reason.
func (s *shard) readRows(group int, c columns, first, count int64) []rawRow {
	rows := make([]rawRow, count)
	s.readLeaf(group, c.image, first, count, func(i int, v []byte, err error) {
		if err == nil && len(v) == 0 {
			err = fmt.Errorf("%s has zero bytes", c.image.name)
		}
		if err != nil {
			rows[i].fail(err)
		}
		rows[i].image = v
	})
	if c.condition != nil {
		s.readLeaf(group, *c.condition, first, count, func(i int, v []byte, err error) {
			if err == nil && len(v) == 0 {
				err = fmt.Errorf("%s has zero bytes", c.condition.name)
			}
			if err != nil {
				rows[i].fail(err)
			}
			rows[i].condition = v
		})
	}
	s.readLeaf(group, c.caption, first, count, func(i int, v []byte, err error) {
		if err != nil {
			rows[i].fail(err)
		}
		rows[i].caption = string(v)
	})
	return rows
}

// readLeaf calls yield once for each of the rows, with its value or the reason why there is none.
// A column that breaks off leaves the rows before it readable.
func (s *shard) readLeaf(group int, l leaf, first, count int64, yield func(i int, v []byte, err error)) {
	next := 0
	err := recovered(func() error {
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
					if v.IsNull() {
						yield(next, nil, nullReason(l, v.DefinitionLevel()))
					} else {
						yield(next, append([]byte{}, v.ByteArray()...), nil)
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

// nullReason tells a null image from one whose bytes alone are null, which holds a path at most.
func nullReason(l leaf, level int) error {
	if level > 0 && level == l.present-1 {
		return fmt.Errorf("%s has null bytes (a path alone is not followed)", l.name)
	}
	return fmt.Errorf("%s is null", l.name)
}
