package condition

import "limner/data/imaging"

var scribbleKind = Kind{
	Name:  "scribble",
	Lines: true,
	Help:  "Lines like a sketch's, white on black: scribble_xdog of the ControlNet annotators.",
	Parameters: []Parameter{
		{
			Name: "threshold", Default: fixed(32), Least: 1, Most: 254, Whole: true,
			Help: "Differences of two blurs above half of it are lines.",
		},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		d := xdog(m)
		threshold := uint8(c.get("threshold"))
		for i, v := range d.pix {
			d.pix[i] = 0
			if 2*v > threshold { // 8 bits, as in numpy: the darkest lines wrap around
				d.pix[i] = 255
			}
		}
		return d.rgb()
	},
}

// xdog is how much darker an image is than its surroundings, in the channel where that is most: 255 less the clipped
// difference of Gaussians that the annotators compute.
func xdog(m *imaging.RGB) plane {
	fine, coarse := blurFloats(m, 0.5), blurFloats(m, 5)
	out := newPlane(m.Width, m.Height)
	for i := range out.pix {
		least := min(coarse[3*i]-fine[3*i], coarse[3*i+1]-fine[3*i+1], coarse[3*i+2]-fine[3*i+2])
		out.pix[i] = 255 - uint8(min(max(255-least, 0), 255))
	}
	return out
}
