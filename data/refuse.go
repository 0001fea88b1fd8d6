package data

import "fmt"

// firstRows is how many rows of a dataset CheckRows tries.
const firstRows = 32

// CheckBatches fails, with the error of Batches, if no batch can be made.
func (d *Dataset) CheckBatches() error {
	switch o := d.options; {
	case o.BatchSize < 1:
		return fmt.Errorf("batch size %d: want at least 1", o.BatchSize)
	case o.Resolution < 1:
		return fmt.Errorf("resolution %d: want at least 1 pixel", o.Resolution)
	case d.class != nil && o.BatchSize%2 != 0:
		return fmt.Errorf("batch size %d: want an even number, half of it for the class", o.BatchSize)
	case d.StepsPerEpoch() < 1:
		return fmt.Errorf("batch size %d is more than the %d rows of the dataset: use a smaller one",
			d.perBatch(), d.places)
	}
	return nil
}

// CheckRows fails if none of the first rows can be decoded and resized: such a dataset is the wrong one, or was made in
// a wrong way. It reads up to the first row that can be used, of the class too.
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

// tryRow decodes and fits row at of a table's group, which is the given row of the dataset.
func (d *Dataset) tryRow(t table, group int, at, row int64) error {
	r, err := d.decode(row, t.readRows(group, at, 1)[0], true)
	if err == nil {
		_, err = d.fit(&r, occurrence{row: row})
	}
	return err
}
