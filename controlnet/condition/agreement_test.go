package condition

import (
	"math"
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

func TestCorrelation(t *testing.T) {
	of := func(values ...uint8) *imaging.RGB {
		return &imaging.RGB{Width: len(values) / 3, Height: 1, Pix: values}
	}
	a := of(10, 20, 30, 40, 50, 60)
	for _, c := range []struct {
		name string
		b    *imaging.RGB
		want float64
	}{
		{"itself", a, 1},
		{"brighter, of half the contrast", of(105, 110, 115, 120, 125, 130), 1},
		{"its negative", of(245, 235, 225, 215, 205, 195), -1},
		{"flat", of(7, 7, 7, 7, 7, 7), 0},
		{"two exchanged", of(20, 10, 30, 40, 50, 60), 1 - 6*2.0/(6*35)}, // Spearman's formula, since these are ranks
	} {
		if got := Correlation(a, c.b); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %g, want %g", c.name, got, c.want)
		}
	}
}
