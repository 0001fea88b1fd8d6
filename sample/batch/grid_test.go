package batch

import (
	"fmt"
	"io"
	"slices"
	"testing"

	"limner/data/imaging"
	"limner/sample"
)

// A grid of many images is made smaller, and stays within what viewers show.
func TestGridOfMany(t *testing.T) {
	for _, c := range []struct {
		prompts, images, width, height, controls int
		want                                     string // columns × rows of the grid, its scale down, its size
	}{
		{2, 2, 64, 64, 0, "2×2, 1, 152×152"}, {5, 1, 64, 64, 0, "3×2, 1, 224×152"},
		{1, 4, 512, 512, 0, "4×1, 1, 2088×528"}, {1, 2, 5000, 8, 0, "2×1, 2, 5024×20"},
		{1, 500, 512, 512, 0, "23×22, 3, 4125×3946"}, {10, 100, 512, 512, 1, "33×40, 4, 4496×5448"},
		{100_000, 1, 512, 512, 0, "317×316, 52, 5714×5696"},
	} {
		l := &List{host: Host{Log: io.Discard}, options: &Options{Outputs: Outputs{NumImages: c.images}}}
		for i := range c.prompts * c.images {
			d := Settings{Height: c.height, Width: c.width, ControlImage: make([]string, c.controls)}
			l.jobs = append(l.jobs, &job{Settings: d, index: i})
		}
		rows := l.gridRows()
		k, sizes := fit(rows, nil)
		size := sample.GridSize(sizes, gridGap)
		if got := fmt.Sprintf("%d×%d, %d, %d×%d", len(rows[0]), len(rows), k, size.X, size.Y); got != c.want {
			t.Errorf("%d prompts with %d images: got %s, want %s", c.prompts, c.images, got, c.want)
		}
		if c.width != 5000 {
			continue
		}
		for i := range rows[0] {
			rows[0][i].read = func() (*imaging.RGB, error) { return imaging.NewRGB(c.width, c.height), nil }
		}
		if m, err := l.overview("grid.png", rows); err != nil || m.Width != size.X || m.Height != size.Y {
			t.Errorf("the grid: %v", err)
		}
	}
	one := place{width: 1, height: 1}
	if k, _ := fit([][]place{slices.Repeat([]place{one}, gridSide)}, nil); k != 0 {
		t.Errorf("a grid of too many images is made at 1/%d", k)
	}
}
