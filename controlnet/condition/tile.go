package condition

import (
	"math"

	"limner/data/imaging"
)

var tileKind = Kind{
	Name: "tile",
	Help: "The image without its detail: made smaller, and larger again.",
	Parameters: []Parameter{
		{Name: "factor", Default: fixed(8), Least: 1, Most: 64, Help: "How many times smaller."},
		{
			Name: "interpolation", Words: []string{"cubic", "linear", "lanczos4", "nearest"}, Most: 3,
			Help: "OpenCV's way to make it larger.",
		},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		kernel := []interpolation{cubic, linear, lanczos4, nearest}[int(c.get("interpolation"))]
		return enlarge(tileDown(m, c.get("factor")), m.Width, m.Height, kernel)
	},
}

// tileDown makes an image so many times smaller, of at least one pixel.
func tileDown(m *imaging.RGB, factor float64) *imaging.RGB {
	return shrink(m, max(1, int(float64(m.Width)/factor)), max(1, int(float64(m.Height)/factor)))
}

// shrink makes an image smaller as OpenCV's INTER_AREA does: each pixel is the mean of the area that it covers.
func shrink(m *imaging.RGB, width, height int) *imaging.RGB {
	out := imaging.NewRGB(width, height)
	columns, rows := areas(m.Width, width), areas(m.Height, height)
	sums, row := make([]int64, 3*width), make([]int64, 3*width)
	total := int64(m.Width) * int64(m.Height) // the weights of a pixel
	for y, part := range rows {
		clear(sums)
		for i, weight := range part.weights {
			shrinkRow(row, m.Pix[(part.first+i)*m.Width*3:], columns)
			for j, v := range row {
				sums[j] += v * weight
			}
		}
		to := out.Pix[y*width*3 : (y+1)*width*3]
		for j, v := range sums {
			to[j] = uint8((v + total/2) / total)
		}
	}
	return out
}

// shrinkRow sums the pixels of a row by the weights of each column.
func shrinkRow(to []int64, row []uint8, columns []area) {
	for x, part := range columns {
		var r, g, b int64
		p := row[part.first*3:]
		for i, weight := range part.weights {
			r += int64(p[3*i]) * weight
			g += int64(p[3*i+1]) * weight
			b += int64(p[3*i+2]) * weight
		}
		to[3*x], to[3*x+1], to[3*x+2] = r, g, b
	}
}

// area is the stretch of inputs that an output covers, and how much of each, in parts of which an input has as many as
// there are outputs. Their sum is the number of inputs.
type area struct {
	first   int
	weights []int64
}

func areas(in, out int) []area {
	list := make([]area, out)
	for i := range list {
		from, to := i*in, (i+1)*in
		list[i].first = from / out
		for at := list[i].first; at*out < to; at++ {
			list[i].weights = append(list[i].weights, int64(min(to, (at+1)*out)-max(from, at*out)))
		}
	}
	return list
}

// interpolation is a kernel for enlarging: the weights of taps inputs around a place that is at, from 0 to 1, behind
// the one in the middle on the left.
type interpolation struct {
	taps    int
	bits    int // fixed point of the weights
	weights func(at float64) []float64
}

// The interpolations of OpenCV, with 11 bits where it has them. None of them is widened where images become smaller.
var (
	nearest = interpolation{taps: 1, bits: 1}
	linear  = interpolation{2, 11, func(at float64) []float64 { return []float64{1 - at, at} }}
	cubic   = interpolation{4, 20, func(at float64) []float64 {
		const a = -0.75
		near := func(x float64) float64 { return ((a+2)*x-(a+3))*x*x + 1 }
		far := func(x float64) float64 { return ((a*x-5*a)*x+8*a)*x - 4*a }
		return []float64{far(1 + at), near(at), near(1 - at), far(2 - at)}
	}}
	lanczos4 = interpolation{8, 11, func(at float64) []float64 {
		weights, sum := make([]float64, 8), 0.0
		for i := range weights {
			weights[i] = 0.25 // the limit where x is 0
			if x := (at + 3 - float64(i)) * math.Pi; x != 0 {
				weights[i] = math.Sin(x) * math.Sin(x/4) / (x * x)
			}
			sum += weights[i]
		}
		for i := range weights {
			weights[i] /= sum
		}
		return weights
	}}
)

// place is where an output is read: at first and the inputs after it, those outside repeating the last one.
type place struct {
	first   int
	weights []int64 // of the interpolation's bits
}

func (k interpolation) places(in, out int) []place {
	list := make([]place, out)
	for i := range list {
		if k.taps == 1 {
			list[i] = place{i * in / out, []int64{1 << k.bits}}
			continue
		}
		at := (float64(i)+0.5)*float64(in)/float64(out) - 0.5
		left := math.Floor(at)
		list[i].first = int(left) - k.taps/2 + 1
		for _, w := range k.weights(at - left) {
			list[i].weights = append(list[i].weights, int64(math.RoundToEven(w*float64(int(1)<<k.bits))))
		}
	}
	return list
}

// enlarge resizes an image by an interpolation of OpenCV.
func enlarge(m *imaging.RGB, width, height int, k interpolation) *imaging.RGB {
	out := imaging.NewRGB(width, height)
	columns, stride := k.places(m.Width, width), 3*width
	// Rows that were made wider, each of them kept until the next that takes its place.
	wide := make([][]int64, k.taps)
	have := make([]int, k.taps)
	for i := range wide {
		wide[i], have[i] = make([]int64, stride), -1
	}
	sums := make([]int64, stride)
	for y, p := range k.places(m.Height, height) {
		for i := range sums {
			sums[i] = 1 << (2*k.bits - 1)
		}
		for i, weight := range p.weights {
			from := min(max(p.first+i, 0), m.Height-1)
			row := wide[from%k.taps]
			if have[from%k.taps] != from {
				have[from%k.taps] = from
				widenRow(row, m.Pix[from*m.Width*3:(from+1)*m.Width*3], columns)
			}
			for j, v := range row {
				sums[j] += v * weight
			}
		}
		to := out.Pix[y*stride : (y+1)*stride]
		for j, v := range sums {
			to[j] = uint8(min(max(v>>(2*k.bits), 0), 255))
		}
	}
	return out
}

// widenRow interpolates a row.
func widenRow(to []int64, row []uint8, columns []place) {
	last := len(row)/3 - 1
	for x, p := range columns {
		var r, g, b int64
		for i, weight := range p.weights {
			q := row[3*min(max(p.first+i, 0), last):]
			r += int64(q[0]) * weight
			g += int64(q[1]) * weight
			b += int64(q[2]) * weight
		}
		to[3*x], to[3*x+1], to[3*x+2] = r, g, b
	}
}
