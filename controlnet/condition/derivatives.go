package condition

import (
	"math"

	"limner/data/imaging"
)

var sobelKind = Kind{
	Name: "sobel",
	Help: "How steep the brightness is: the root of the squares of Sobel's derivatives.",
	Parameters: []Parameter{
		{
			Name: "scale", Words: []string{"clip", "max"}, Most: 1,
			Help: "What is above 255 is cut off (clip), or the steepest place becomes 255 (max).",
		},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		return sobel(luminanceOf(m), c.get("scale") == 1).rgb()
	},
}

var laplacianKind = Kind{
	Name: "laplacian",
	Help: "Where the brightness bends: the absolute value of the second derivative, up to 255.",
	Parameters: []Parameter{
		{
			Name: "kernel", Words: []string{"1", "3"}, Most: 1,
			Help: "Of the four neighbours (1), or of the four at the corners (3).",
		},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		return laplacian(luminanceOf(m), c.get("kernel") == 1).rgb()
	},
}

// neighbourhoods calls f for each row with the rows above, at and below it, padded by one pixel on either side. Outside
// the image is reflected.
func (p plane) neighbourhoods(f func(y int, above, here, below []uint8)) {
	padded := [3][]uint8{make([]uint8, p.width+2), make([]uint8, p.width+2), make([]uint8, p.width+2)}
	load := func(to []uint8, y int) []uint8 {
		y = reflect101(y, p.height)
		pad(to, p.pix[y*p.width:(y+1)*p.width], p.width, 1, 1)
		return to
	}
	above, here, below := load(padded[0], -1), load(padded[1], 0), padded[2]
	for y := range p.height {
		f(y, above, here, load(below, y+1))
		above, here, below = here, below, above
	}
}

// sobel is the magnitude of the gradient.
func sobel(p plane, toMax bool) plane {
	squares := make([]int32, len(p.pix))
	most := int32(1)
	p.neighbourhoods(func(y int, above, here, below []uint8) {
		to := squares[y*p.width : (y+1)*p.width]
		for x := range to {
			a, b, c := above[x:x+3:x+3], here[x:x+3:x+3], below[x:x+3:x+3]
			gx := int32(a[2]) - int32(a[0]) + 2*(int32(b[2])-int32(b[0])) + int32(c[2]) - int32(c[0])
			gy := int32(c[0]) - int32(a[0]) + 2*(int32(c[1])-int32(a[1])) + int32(c[2]) - int32(a[2])
			to[x] = gx*gx + gy*gy
			most = max(most, to[x])
		}
	})
	out := newPlane(p.width, p.height)
	steepest := math.Sqrt(float64(most))
	for i, square := range squares {
		magnitude := math.Sqrt(float64(square))
		if toMax {
			magnitude = magnitude * 255 / steepest
		}
		out.pix[i] = uint8(math.RoundToEven(min(magnitude, 255)))
	}
	return out
}

// laplacian is the absolute value of the Laplacian, with OpenCV's kernel of size 1 or, with corners, of size 3.
func laplacian(p plane, corners bool) plane {
	out := newPlane(p.width, p.height)
	p.neighbourhoods(func(y int, above, here, below []uint8) {
		to := out.pix[y*p.width : (y+1)*p.width]
		for x := range to {
			a, b, c := above[x:x+3:x+3], here[x:x+3:x+3], below[x:x+3:x+3]
			var v int32
			if corners {
				v = 2*(int32(a[0])+int32(a[2])+int32(c[0])+int32(c[2])) - 8*int32(b[1])
			} else {
				v = int32(a[1]) + int32(b[0]) + int32(b[2]) + int32(c[1]) - 4*int32(b[1])
			}
			to[x] = uint8(min(max(v, -v), 255))
		}
	})
	return out
}
