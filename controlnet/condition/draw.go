package condition

import (
	"math"

	"limner/data/imaging"
)

// canvas is an image to draw on. What lies outside of it is left out.
type canvas struct{ *imaging.RGB }

type rgb [3]uint8

// row fills a row of pixels from left to right, both of them too.
func (c canvas) row(y, left, right int, colour rgb) {
	if y < 0 || y >= c.Height {
		return
	}
	for x := max(left, 0); x <= min(right, c.Width-1); x++ {
		copy(c.Pix[3*(y*c.Width+x):], colour[:])
	}
}

// disc fills a circle as OpenCV does (the midpoint algorithm).
func (c canvas) disc(x, y, radius int, colour rgb) {
	for dx, dy, off := radius, 0, 0; dx >= dy; {
		for _, side := range [2]int{-1, 1} {
			c.row(y+side*dy, x-dx, x+dx, colour)
			c.row(y+side*dx, x-dy, x+dy, colour)
		}
		dy++
		if off += 2*dy - 1; off > 0 {
			off -= 2*dx - 1
			dx--
		}
	}
}

// point is a place in pixels, whose centres are whole numbers.
type point struct{ x, y float64 }

// convex fills a convex polygon: its outline, and in each row what lies between.
func (c canvas) convex(corners []point, colour rgb) {
	left, right := map[int]int{}, map[int]int{}
	put := func(x, y int) {
		if y < 0 || y >= c.Height {
			return
		}
		if l, ok := left[y]; !ok || x < l {
			left[y] = x
		}
		if r, ok := right[y]; !ok || x > r {
			right[y] = x
		}
	}
	from := corners[len(corners)-1]
	for _, to := range corners {
		outline(from, to, put)
		from = to
	}
	for y, l := range left {
		c.row(y, l, right[y], colour)
	}
}

// outline visits the pixels of a line: one in each column or, of a steep line, in each row.
func outline(from, to point, put func(x, y int)) {
	steep := math.Abs(to.y-from.y) > math.Abs(to.x-from.x)
	if steep {
		from, to = point{from.y, from.x}, point{to.y, to.x}
	}
	if from.x > to.x {
		from, to = to, from
	}
	slope := 0.0
	if to.x > from.x {
		slope = (to.y - from.y) / (to.x - from.x)
	}
	first, last := math.Floor(from.x+0.5), math.Floor(to.x+0.5)
	for at := first; at <= last; at++ {
		y := math.Floor(from.y + slope*(at-first) + 0.5)
		if steep {
			put(int(y), int(at))
		} else {
			put(int(at), int(y))
		}
	}
}

// ellipse fills an ellipse of whole degrees as OpenCV's ellipse2Poly approximates it: by its points at every degree.
func (c canvas) ellipse(x, y, a, b, degrees int, colour rgb) {
	turnSin, turnCos := math.Sincos(float64(degrees) * math.Pi / 180)
	var corners []point
	for degree := 0; degree <= 360; degree++ {
		sin, cos := math.Sincos(float64(degree) * math.Pi / 180)
		u, v := float64(a)*cos, float64(b)*sin
		p := point{
			math.RoundToEven(float64(x) + u*turnCos - v*turnSin), math.RoundToEven(float64(y) + u*turnSin + v*turnCos),
		}
		if len(corners) == 0 || p != corners[len(corners)-1] {
			corners = append(corners, p)
		}
	}
	c.convex(corners, colour)
}

// line draws a line of 2 pixels with round ends.
func (c canvas) line(from, to point, colour rgb) {
	if length := math.Hypot(to.x-from.x, to.y-from.y); length > 0 {
		u, v := (to.y-from.y)/length, (from.x-to.x)/length // across
		c.convex([]point{
			{from.x + u, from.y + v}, {from.x - u, from.y - v}, {to.x - u, to.y - v}, {to.x + u, to.y + v},
		}, colour)
	}
	for _, end := range []point{from, to} {
		c.disc(int(end.x), int(end.y), 1, colour)
	}
}
