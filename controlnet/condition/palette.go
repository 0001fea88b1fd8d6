package condition

import (
	"cmp"
	"math"
	"slices"

	"limner/data/imaging"
)

var paletteKind = Kind{
	Name: "palette",
	Help: "The image in few colours, chosen by median cut as Pillow's quantize does, without dithering.",
	Parameters: []Parameter{
		{Name: "colours", Default: fixed(8), Least: 2, Most: 256, Whole: true, Help: "At most so many."},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB { return quantize(m, int(c.get("colours"))) },
}

// colour is a colour of an image.
type colour struct {
	rgb   [3]uint8
	count int // pixels of it
}

// quantize draws an image in the means of boxes of colours, each pixel in the nearest.
func quantize(m *imaging.RGB, colours int) *imaging.RGB {
	boxes := medianCut(coloursOf(m), colours)
	palette := make([][3]int, len(boxes))
	for i, b := range boxes {
		palette[i] = b.mean()
	}
	near := map[[3]uint8][3]uint8{}
	for own, b := range boxes {
		for _, c := range b.colours {
			best := own // of equally near ones
			for i, p := range palette {
				if distance(p, c.rgb) < distance(palette[best], c.rgb) {
					best = i
				}
			}
			p := palette[best]
			near[c.rgb] = [3]uint8{uint8(p[0]), uint8(p[1]), uint8(p[2])}
		}
	}
	out := imaging.NewRGB(m.Width, m.Height)
	var last, to [3]uint8
	for i := 0; i < len(m.Pix); i += 3 {
		if at := [3]uint8(m.Pix[i:]); i == 0 || at != last {
			last, to = at, near[at]
		}
		copy(out.Pix[i:], to[:])
	}
	return out
}

func distance(p [3]int, c [3]uint8) int {
	r, g, b := p[0]-int(c[0]), p[1]-int(c[1]), p[2]-int(c[2])
	return r*r + g*g + b*b
}

// coloursOf lists the colours of an image.
func coloursOf(m *imaging.RGB) []colour {
	keys := make([]uint32, 0, m.Width*m.Height)
	for i := 0; i < len(m.Pix); i += 3 {
		keys = append(keys, uint32(m.Pix[i])<<16|uint32(m.Pix[i+1])<<8|uint32(m.Pix[i+2]))
	}
	slices.Sort(keys)
	var list []colour
	for i, key := range keys {
		if i == 0 || key != keys[i-1] {
			list = append(list, colour{rgb: [3]uint8{uint8(key >> 16), uint8(key >> 8), uint8(key)}})
		}
		list[len(list)-1].count++
	}
	return list
}

// box is a part of the colours of an image.
type box struct {
	colours []colour
	count   int // pixels of them
}

// mean is the mean colour of the pixels, rounded.
func (b box) mean() [3]int {
	var sums [3]int
	for _, c := range b.colours {
		for i, v := range c.rgb {
			sums[i] += int(v) * c.count
		}
	}
	for i, v := range sums {
		sums[i] = (v + b.count/2) / b.count
	}
	return sums
}

// spans are the sides of the box along red, green and blue.
func (b box) spans() [3]int {
	low, high := b.colours[0].rgb, b.colours[0].rgb
	for _, c := range b.colours {
		for i, v := range c.rgb {
			low[i], high[i] = min(low[i], v), max(high[i], v)
		}
	}
	return [3]int{int(high[0]) - int(low[0]), int(high[1]) - int(low[1]), int(high[2]) - int(low[2])}
}

// split divides a box in two along its longest side, red, green and blue weighed by their brightness: from the largest
// value on until more than half of the pixels are in the first. The box has at least two colours.
func (b box) split() (box, box) {
	spans := b.spans()
	axis, longest := 0, -1
	for i, weight := range [3]int{77, 150, 29} {
		if s := spans[i] * weight; s > longest {
			axis, longest = i, s
		}
	}
	slices.SortStableFunc(b.colours, func(x, y colour) int { return -cmp.Compare(x.rgb[axis], y.rgb[axis]) })
	cut, count := 0, 0
	for cut < len(b.colours) && 2*count <= b.count {
		count += b.colours[cut].count
		cut++
	}
	// Colours of one value along the axis stay together: with the first box, or with the second if that has no other.
	value := b.colours[cut-1].rgb[axis]
	for cut < len(b.colours) && b.colours[cut].rgb[axis] == value {
		cut++
	}
	if cut == len(b.colours) {
		for value = b.colours[cut-1].rgb[axis]; b.colours[cut-1].rgb[axis] == value; cut-- {
		}
	}
	first, second := box{colours: b.colours[:cut]}, box{colours: b.colours[cut:]}
	for _, c := range first.colours {
		first.count += c.count
	}
	second.count = b.count - first.count
	return first, second
}

// medianCut divides colours into at most so many boxes (Heckbert 1982), always the one of the most pixels.
func medianCut(all []colour, most int) []box {
	whole := box{colours: all}
	for _, c := range all {
		whole.count += c.count
	}
	boxes := []box{whole}
	for len(boxes) < most {
		best, largest := -1, math.MinInt
		for i, b := range boxes {
			if len(b.colours) > 1 && b.count > largest {
				best, largest = i, b.count
			}
		}
		if best < 0 {
			break
		}
		first, second := boxes[best].split()
		boxes[best] = first
		boxes = append(boxes, second)
	}
	return boxes
}
