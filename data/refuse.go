package data

import "fmt"

// firstRows are the rows of a data set that CheckRows looks at.
const firstRows = 32

// CheckBatches fails where no batch can be made: what Batches would say.
func (d *Dataset) CheckBatches() error {
	switch o := d.options; {
	case o.BatchSize < 1:
		return fmt.Errorf("batch size %d: want at least 1", o.BatchSize)
	case o.Resolution < 1:
		return fmt.Errorf("resolution %d: want at least 1 pixel", o.Resolution)
	case d.class != nil && o.BatchSize%2 != 0:
		return fmt.Errorf("batch size %d: want an even number, half of it for the class", o.BatchSize)
	case d.StepsPerEpoch() < 1:
		return fmt.Errorf("batch size %d is more than the %d rows of the data set: use a smaller one",
			d.perBatch(), d.rows)
	}
	return nil
}

// CheckRows fails where none of the first rows can be decoded and brought to the resolution: a data set whose beginning
// is useless is the wrong one, or was made in the wrong way. It reads until the first row that can be used; of a class,
// too.
func (d *Dataset) CheckRows() error {
	if d.class != nil {
		if err := d.class.CheckRows(); err != nil {
			return fmt.Errorf("class images: %w", err)
		}
	}
	row, first := int64(0), ""
	for _, t := range d.tables {
		for g, group := range t.groups() {
			for at := int64(0); at < group.rows; at++ {
				if row == firstRows {
					return fmt.Errorf("none of the first %d rows can be used, the first: %s", row, first)
				}
				problem := d.tryRow(t, g, at, row)
				if problem == nil {
					return nil
				}
				if first == "" {
					first = d.name(row, problem.Error()).String()
				}
				row++
			}
		}
	}
	return fmt.Errorf("none of the %d rows can be used, the first: %s", row, first)
}

// tryRow decodes and fits a row of a table, the given one of the data set.
func (d *Dataset) tryRow(t table, group int, at, row int64) error {
	r, err := d.decode(row, t.readRows(group, at, 1)[0])
	if err == nil {
		_, err = d.fit(&r, row, 0)
	}
	return err
}
