package demo

import (
	"limner/data"
	"limner/sample"
)

// picture shows the first cases, several in a row: the outline, then what was drawn with the ControlNet and without.
func picture(cases []data.Circle, with, without []*data.RGB) (*data.RGB, error) {
	const inRow, rows, gap, zoom = 3, 4, 8, 2
	grid := make([][]*data.RGB, rows)
	var titles []string
	for range inRow {
		titles = append(titles, "outline", "ControlNet", "without")
	}
	for i := range min(len(cases), inRow*rows) {
		for _, m := range []*data.RGB{cases[i].Condition(), with[i], without[i]} {
			large, err := data.Resize(m, zoom*m.Width, zoom*m.Height, data.Nearest)
			if err != nil {
				return nil, err
			}
			grid[i/inRow] = append(grid[i/inRow], large)
		}
	}
	return sample.Grid(grid, gap, titles...), nil
}
