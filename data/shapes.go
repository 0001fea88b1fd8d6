package data

import (
	"errors"
	"fmt"

	"limner/data/imaging"
)

// shapeRows is how many rows of a file are checked when it is opened.
const shapeRows = 8

// checkShapes fails if no image among the first rows of a file has the shape of what is cropped with it: then the
// column is the wrong one or was made in a wrong way, while single bad rows are replaced. Only the headers of images
// are read.
func (d *Dataset) checkShapes() error {
	if d.options.Resolution == 0 || !d.options.readsConditioning() && d.options.MaskColumn == "" {
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

// checkTable checks the first rows of a table, which begins at row start of the dataset. Rows that cannot be read are
// ignored.
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

// pairs says which column of a row differs in shape from its image; ok is false if the row cannot be read.
func (d *Dataset) pairs(row rawRow) (problem string, ok bool) {
	if row.err != nil {
		return "", false
	}
	var view View
	for _, part := range []struct {
		column string
		raw    picture
	}{
		{d.options.ImageColumn, row.image},
		{d.options.ConditioningImageColumn, row.condition},
		{d.options.MaskColumn, row.mask},
	} {
		if part.raw.bytes == nil && part.raw.path == "" {
			continue
		}
		var width, height int
		raw, err := part.raw.content()
		if err == nil {
			width, height, err = imaging.Size(raw)
		}
		if err != nil {
			return "", false
		}
		if view.Width == 0 {
			view = View{Height: height, Width: width}
		} else if err := SameShape(view, width, height, d.options.Resolution); err != nil {
			return fmt.Sprintf("%s: %v", part.column, err), true
		}
	}
	return "", true
}
