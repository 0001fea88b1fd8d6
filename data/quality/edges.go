package quality

import "math"

// edgeSide is the side of a map of edges, in cells.
const edgeSide = reducedSide / 2

// Edges is a map of where a picture's edges are, on 64×64 cells whatever the picture's shape: their strength less its
// mean, scaled to a sum of squares of 1. All are 0 for a picture without edges.
type Edges [edgeSide * edgeSide]float32

// Edges maps the edges of a picture: the square root of the largest gradient among the channels, averaged over 3×3
// cells, so that a thin line and the step that it follows meet.
func (r *Reduced) Edges() *Edges {
	var cells Edges
	m := r.small
	for y := range reducedSide {
		above, below := m.Pix[max(y-1, 0)*reducedSide*3:], m.Pix[min(y+1, reducedSide-1)*reducedSide*3:]
		row := m.Pix[y*reducedSide*3:]
		for x := range reducedSide {
			left, right := 3*max(x-1, 0), 3*min(x+1, reducedSide-1)
			largest := int32(0)
			for c := range 3 {
				dx := int32(row[right+c]) - int32(row[left+c])
				dy := int32(below[3*x+c]) - int32(above[3*x+c])
				largest = max(largest, dx*dx+dy*dy)
			}
			cells[y/2*edgeSide+x/2] += float32(largest)
		}
	}
	for i, v := range cells { // the mean square of a cell's four gradients, and the root of its root
		cells[i] = float32(math.Sqrt(math.Sqrt(float64(v))))
	}
	var out Edges
	mean := 0.0
	for y := range edgeSide {
		for x := range edgeSide {
			sum, n := float32(0), float32(0)
			for b := max(y-1, 0); b <= min(y+1, edgeSide-1); b++ {
				for a := max(x-1, 0); a <= min(x+1, edgeSide-1); a++ {
					sum += cells[b*edgeSide+a]
					n++
				}
			}
			out[y*edgeSide+x] = sum / n
			mean += float64(sum / n)
		}
	}
	mean /= float64(len(out))
	squares := 0.0
	for i := range out {
		out[i] -= float32(mean)
		squares += float64(out[i]) * float64(out[i])
	}
	if squares == 0 {
		return &Edges{}
	}
	scale := float32(1 / math.Sqrt(squares))
	for i := range out {
		out[i] *= scale
	}
	return &out
}

// None says that the picture has no edges.
func (e *Edges) None() bool { return *e == Edges{} }

// Correlation says how far the edges of two pictures lie in the same places: Pearson's coefficient, 1 for the same
// ones, about 0 for pictures that have nothing to do with each other or without edges.
func (e *Edges) Correlation(o *Edges) float64 {
	sum := float32(0)
	for i, v := range e {
		sum += v * o[i]
	}
	return float64(sum)
}

// Turn is one of the ways in which a picture may have been turned.
type Turn int

// The turns of a picture, beside none.
const (
	Mirrored   Turn = iota + 1 // left and right are exchanged
	UpsideDown                 // top and bottom are exchanged
	HalfTurn
	QuarterTurn     // clockwise
	QuarterTurnBack // anticlockwise
	lastTurn        = QuarterTurnBack
)

// String names the turn.
func (t Turn) String() string {
	return [...]string{
		"not turned", "mirrored", "upside down", "turned by 180°", "turned by 90°", "turned by 270°",
	}[t]
}

// Turned is the map of the picture when turned.
func (e *Edges) Turned(t Turn) *Edges {
	var out Edges
	const last = edgeSide - 1
	for y := range edgeSide {
		for x := range edgeSide {
			a, b := x, y // where the cell comes from
			switch t {
			case Mirrored:
				a = last - x
			case UpsideDown:
				b = last - y
			case HalfTurn:
				a, b = last-x, last-y
			case QuarterTurn:
				a, b = y, last-x
			case QuarterTurnBack:
				a, b = last-y, x
			}
			out[y*edgeSide+x] = e[b*edgeSide+a]
		}
	}
	return &out
}

// BestTurn is the turn of o by which its edges fit those of e best, and their correlation then. It may be none.
func (e *Edges) BestTurn(o *Edges) (t Turn, correlation float64) {
	correlation = e.Correlation(o)
	for turn := Mirrored; turn <= lastTurn; turn++ {
		if c := e.Correlation(o.Turned(turn)); c > correlation {
			t, correlation = turn, c
		}
	}
	return t, correlation
}
