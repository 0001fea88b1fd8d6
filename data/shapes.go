package data

import (
	"errors"
	"fmt"

	"limner/data/imaging"
)

// shapeRows are the rows of a file that are looked at when it is opened.
const shapeRows = 8

// checkShapes fails where no image among the first rows of a file has the shape of what is cropped with it: that is no
// row gone bad, which is passed over, but the wrong column or the wrong way of making it. Only headers of images are
// read.
func (d *Dataset) checkShapes() error {
	if d.options.Resolution == 0 || !d.options.NeedConditioning && d.options.MaskColumn == "" {
		return nil
	}
	start := int64(0)
	for _, t := range d.tables {
		groups := t.groups()
		if err := d.checkTable(t, groups, start); err != nil {
			return err
		}
		for _, g := range groups {
			start += g.rows
		}
	}
	return nil
}

// checkTable looks at the first rows of a table, whose first is row start of the data set. Rows that cannot be read
// tell nothing.
func (d *Dataset) checkTable(t table, groups []group, start int64) error {
	seen, wrong, first := int64(0), 0, ""
	for g := 0; g < len(groups) && seen < shapeRows; g++ {
		for i, row := range t.readRows(g, 0, min(groups[g].rows, shapeRows-seen)) {
			problem, ok := d.pairs(row)
			if ok && problem == "" {
				return nil
			}
			if ok && first == "" {
				first = d.name(start+seen+int64(i), problem).String()
			}
			if ok {
				wrong++
			}
		}
		seen += min(groups[g].rows, shapeRows-seen)
	}
	if wrong > 1 {
		first += fmt.Sprintf(" (and %d rows after it)", wrong-1)
	}
	if wrong > 0 {
		return errors.New(first)
	}
	return nil
}

// pairs says which column of a row has another shape than its image, and how; ok is false where the row cannot be read.
func (d *Dataset) pairs(row rawRow) (problem string, ok bool) {
	if row.err != nil {
		return "", false
	}
	var view View
	for _, part := range []struct {
		column string
		raw    []byte
	}{
		{d.options.ImageColumn, row.image},
		{d.options.ConditioningImageColumn, row.condition},
		{d.options.MaskColumn, row.mask},
	} {
		if part.raw == nil {
			continue
		}
		width, height, err := imaging.Size(part.raw)
		if err != nil {
			return "", false
		}
		if view.Width == 0 {
			view = View{Height: height, Width: width}
		} else if err := sameShape(view, width, height, d.options.Resolution); err != nil {
			return fmt.Sprintf("%s: %v", part.column, err), true
		}
	}
	return "", true
}
