package condition

import (
	"testing"

	"limner/data/imaging"
)

func TestAgreement(t *testing.T) {
	square := func(left, top, right, bottom int) *imaging.RGB { // its outline
		m := imaging.NewRGB(32, 32)
		for y := top; y <= bottom; y++ {
			for x := left; x <= right; x++ {
				if x == left || x == right || y == top || y == bottom {
					copy(m.Pix[(y*32+x)*3:], []uint8{255, 255, 255})
				}
			}
		}
		return m
	}
	for _, c := range []struct {
		name              string
		reference, edges  *imaging.RGB
		tolerance         int
		precision, recall float64
	}{
		{"the same", square(4, 4, 20, 20), square(4, 4, 20, 20), 0, 1, 1},
		{"moved by one", square(4, 4, 20, 20), square(5, 5, 21, 21), 1, 1, 1},
		{"a third line", square(4, 4, 20, 4), square(4, 4, 20, 5), 0, 0.5, 1},
		{"half of it", square(4, 4, 23, 4), square(4, 4, 13, 4), 0, 1, 0.5},
		{"far apart", square(0, 0, 4, 4), square(20, 20, 25, 25), 2, 0, 0},
		{"nothing", square(0, 0, 4, 4), imaging.NewRGB(32, 32), 2, 0, 0},
	} {
		precision, recall := Agreement(c.reference, c.edges, c.tolerance)
		if precision != c.precision || recall != c.recall {
			t.Errorf("%s: precision %g and recall %g, want %g and %g", c.name, precision, recall, c.precision, c.recall)
		}
	}
}
