package condition

import (
	"math"

	"limner/data/imaging"
)

// Agreement measures how well edges follow a reference, both white on black and of the same size. Precision is the
// share of the edge pixels with a white pixel of the reference at most tolerance pixels away along each axis; recall is
// the share of the reference's pixels with an edge pixel that near. If one of them has no white pixel, both are 0.
func Agreement(reference, edges *imaging.RGB, tolerance int) (precision, recall float64) {
	precision = nearShare(edges, reference, tolerance)
	recall = nearShare(reference, edges, tolerance)
	return precision, recall
}

// nearShare is the share of the white pixels of m that have a white one of other within tolerance.
func nearShare(m, other *imaging.RGB, tolerance int) float64 {
	white, near := 0, 0
	for y := range m.Height {
		for x := range m.Width {
			if !isWhite(m, x, y) {
				continue
			}
			white++
			if whiteNear(other, x, y, tolerance) {
				near++
			}
		}
	}
	if white == 0 {
		return 0
	}
	return float64(near) / float64(white)
}

// isWhite says whether a pixel is nearer to white than to black.
func isWhite(m *imaging.RGB, x, y int) bool {
	p := m.Pix[(y*m.Width+x)*3:]
	return int(p[0])+int(p[1])+int(p[2]) >= 3*128
}

func whiteNear(m *imaging.RGB, x, y, tolerance int) bool {
	for b := max(y-tolerance, 0); b <= min(y+tolerance, m.Height-1); b++ {
		for a := max(x-tolerance, 0); a <= min(x+tolerance, m.Width-1); a++ {
			if isWhite(m, a, b) {
				return true
			}
		}
	}
	return false
}

// Correlation is Pearson's correlation of the values of two images of the same size, from -1 to 1: how well one follows
// the other, whatever their brightness and contrast. It is 0 where one of them has a single value.
func Correlation(a, b *imaging.RGB) float64 {
	// Sums of products of 8 bits are exact.
	var x, y, xx, yy, xy int64
	other := b.Pix[:len(a.Pix)]
	for i, v := range a.Pix {
		p, q := int64(v), int64(other[i])
		x, y, xx, yy, xy = x+p, y+q, xx+p*p, yy+q*q, xy+p*q
	}
	n := float64(len(a.Pix))
	spread := func(sum, squares int64) float64 { return float64(squares) - float64(sum)*float64(sum)/n }
	variances := spread(x, xx) * spread(y, yy)
	if variances <= 0 {
		return 0
	}
	return (float64(xy) - float64(x)*float64(y)/n) / math.Sqrt(variances)
}
