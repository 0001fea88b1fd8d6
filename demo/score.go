package demo

import (
	"slices"

	"limner/data/circles"
	"limner/data/imaging"
)

// score compares the images with the cases.
func score(set circles.Set, cases []circles.Circle,
	with, without []*imaging.RGB) (iouWith, iouWithout, colours float64, err error) {
	palette, err := imaging.Palette(set.Palette)
	if err != nil {
		return 0, 0, 0, err
	}
	n := float64(len(cases))
	for i, c := range cases {
		iouWith += iou(c, with[i]) / n
		iouWithout += iou(c, without[i]) / n
		if coloursMatch(c, with[i], palette) {
			colours += 1 / n
		}
	}
	return iouWith, iouWithout, colours, nil
}

// iou is the intersection over union of the case's disc and the sampled one, whose pixels are those nearer to the
// disc's colour than to the background's.
func iou(c circles.Circle, m *imaging.RGB) float64 {
	var both, either int
	for i, asked := range c.Mask() {
		px := [3]uint8(m.Pix[3*i : 3*i+3])
		inDisc := distance(px, c.Disc.RGB) < distance(px, c.Background.RGB)
		if asked && inDisc {
			both++
		}
		if asked || inDisc {
			either++
		}
	}
	return float64(both) / float64(max(either, 1))
}

func distance(a, b [3]uint8) (d int) {
	for k := range a {
		d += (int(a[k]) - int(b[k])) * (int(a[k]) - int(b[k]))
	}
	return d
}

// coloursMatch says whether the median colours inside and outside the case's disc, without its edge, are nearest in the
// palette to the named ones.
func coloursMatch(c circles.Circle, m *imaging.RGB, palette []imaging.Colour) bool {
	const edge = 2 // pixels
	var inside, outside [3][]uint8
	for i := range m.Width * m.Height {
		dx, dy := float64(i%m.Width)+0.5-c.X, float64(i/m.Width)+0.5-c.Y
		region := &outside
		switch d := dx*dx + dy*dy; {
		case d < (c.Radius-edge)*(c.Radius-edge):
			region = &inside
		case d < (c.Radius+edge)*(c.Radius+edge):
			continue
		}
		for k := range region {
			region[k] = append(region[k], m.Pix[3*i+k])
		}
	}
	return imaging.NearestColour(median(inside), palette) == c.Disc.Name &&
		imaging.NearestColour(median(outside), palette) == c.Background.Name
}

func median(channels [3][]uint8) (rgb [3]uint8) {
	for k, values := range channels {
		if len(values) > 0 {
			slices.Sort(values)
			rgb[k] = values[len(values)/2]
		}
	}
	return rgb
}
