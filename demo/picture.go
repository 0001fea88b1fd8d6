package demo

import (
	"limner/data/circles"
	"limner/data/imaging"
	"limner/sample"
)

// picture arranges the first cases, several in a row: the outline, then the image with the ControlNet and the one
// without.
func picture(cases []circles.Circle, with, without []*imaging.RGB) (*imaging.RGB, error) {
	const inRow, rows, gap, zoom = 3, 4, 8, 2
	grid := make([][]*imaging.RGB, rows)
	var titles []string
	for range inRow {
		titles = append(titles, "outline", "ControlNet", "without")
	}
	for i := range min(len(cases), inRow*rows) {
		for _, m := range []*imaging.RGB{cases[i].Condition(), with[i], without[i]} {
			large, err := imaging.Resize(m, zoom*m.Width, zoom*m.Height, imaging.Nearest)
			if err != nil {
				return nil, err
			}
			grid[i/inRow] = append(grid[i/inRow], large)
		}
	}
	return sample.Grid(grid, gap, titles...), nil
}
