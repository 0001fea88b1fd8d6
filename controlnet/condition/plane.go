package condition

import "limner/data/imaging"

// plane is an image of one 8-bit channel, rows from the top.
type plane struct {
	width, height int
	pix           []uint8
}

func newPlane(width, height int) plane {
	return plane{width, height, make([]uint8, width*height)}
}

// luminanceOf is the gray of OpenCV's RGB2GRAY, in 15-bit fixed point.
func luminanceOf(m *imaging.RGB) plane {
	out := newPlane(m.Width, m.Height)
	pix := m.Pix[:3*len(out.pix)]
	for i := range out.pix {
		p := pix[3*i : 3*i+3 : 3*i+3]
		out.pix[i] = uint8((9798*uint32(p[0]) + 19235*uint32(p[1]) + 3735*uint32(p[2]) + 1<<14) >> 15)
	}
	return out
}

// rgb is the gray image.
func (p plane) rgb() *imaging.RGB {
	out := imaging.NewRGB(p.width, p.height)
	to := out.Pix[:3*len(p.pix)]
	for i, v := range p.pix {
		q := to[3*i : 3*i+3 : 3*i+3]
		q[0], q[1], q[2] = v, v, v
	}
	return out
}

// reflect101 is where a position outside of 0 to n-1 is read: mirrored at the outermost pixel, which is not repeated.
func reflect101(i, n int) int {
	if n == 1 {
		return 0
	}
	period := 2 * (n - 1)
	i %= period
	if i < 0 {
		i += period
	}
	return min(i, period-i)
}

var luminanceKind = Kind{
	Name:  "luminance",
	Help:  "Brightness, as OpenCV makes images gray.",
	apply: func(m *imaging.RGB, _ Condition) *imaging.RGB { return luminanceOf(m).rgb() },
}

var invertKind = Kind{
	Name: "invert",
	Help: "The negative: 255 less each value.",
	apply: func(m *imaging.RGB, _ Condition) *imaging.RGB {
		out := imaging.NewRGB(m.Width, m.Height)
		for i, v := range m.Pix {
			out.Pix[i] = 255 - v
		}
		return out
	},
}
