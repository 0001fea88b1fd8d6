package condition

import "limner/data/imaging"

var gridKind = Kind{
	Name: "grid",
	Help: "Blocks of one colour each, the mean of what they cover.",
	Parameters: []Parameter{
		{Name: "size", Default: fixed(64), Least: 2, Most: 1024, Whole: true, Help: "Side of a block in pixels."},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB { return grid(m, int(c.get("size"))) },
}

var t2iColorKind = Kind{
	Name: "t2i_color",
	Help: "Blocks of one colour each, as the T2I adapter for colours takes them: samples rather than means.",
	Parameters: []Parameter{
		{Name: "size", Default: fixed(64), Least: 2, Most: 1024, Whole: true, Help: "Side of a block in pixels."},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		size := int(c.get("size"))
		small := enlarge(m, max(1, m.Width/size), max(1, m.Height/size), cubic)
		return enlarge(small, m.Width, m.Height, nearest)
	},
}

// grid fills blocks from the top left with their mean colour. Those of the last row and column may be smaller.
func grid(m *imaging.RGB, size int) *imaging.RGB {
	out := imaging.NewRGB(m.Width, m.Height)
	stride, blocks := 3*m.Width, (m.Width+size-1)/size
	sums := make([]uint64, 3*blocks)
	for top := 0; top < m.Height; top += size {
		bottom := min(top+size, m.Height)
		clear(sums)
		for y := top; y < bottom; y++ {
			row := m.Pix[y*stride : (y+1)*stride]
			for b := range blocks {
				var red, green, blue uint64
				for p := row[3*size*b : min(3*size*(b+1), stride)]; len(p) >= 3; p = p[3:] {
					red, green, blue = red+uint64(p[0]), green+uint64(p[1]), blue+uint64(p[2])
				}
				sums[3*b], sums[3*b+1], sums[3*b+2] = sums[3*b]+red, sums[3*b+1]+green, sums[3*b+2]+blue
			}
		}
		first := out.Pix[top*stride : (top+1)*stride]
		for x := range m.Width {
			b := x / size
			n := uint64((min((b+1)*size, m.Width) - b*size) * (bottom - top))
			for c := range 3 {
				first[3*x+c] = uint8((2*sums[3*b+c] + n) / (2 * n)) // rounded, halves up
			}
		}
		for y := top + 1; y < bottom; y++ {
			copy(out.Pix[y*stride:], first)
		}
	}
	return out
}
