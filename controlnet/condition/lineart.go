package condition

import (
	"slices"

	"limner/data/imaging"
)

var lineartKind = Kind{
	Name: "lineart",
	Help: "Dark lines on a light ground, white on black with their strengths: lineart_standard of the annotators.",
	Parameters: []Parameter{
		{Name: "sigma", Default: fixed(6), Least: 0.5, Most: 50, Help: "Blur of the ground, in pixels."},
		{
			Name: "threshold", Default: fixed(8), Most: 254,
			Help: "Differences above it are lines, whose median is drawn at half of white.",
		},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		return lineart(m, c.get("sigma"), float32(c.get("threshold"))).rgb()
	},
}

// lineart is how much darker an image is than its blur, scaled by the median of what is above the threshold.
func lineart(m *imaging.RGB, sigma float64, threshold float32) plane {
	ground := blurFloats(m, sigma)
	depth := make([]float32, m.Width*m.Height)
	var lines []float32
	for i := range depth {
		d := min(ground[3*i]-float32(m.Pix[3*i]), ground[3*i+1]-float32(m.Pix[3*i+1]),
			ground[3*i+2]-float32(m.Pix[3*i+2]))
		depth[i] = min(max(d, 0), 255)
		if depth[i] > threshold {
			lines = append(lines, depth[i])
		}
	}
	const least = 16 // of the median, so that an image without lines does not become noise
	scale := max(least, median(lines))
	out := newPlane(m.Width, m.Height)
	for i, d := range depth {
		out.pix[i] = uint8(min(max(d/scale*127, 0), 255))
	}
	return out
}

// median is the middle of values, or the mean of the two in the middle; 0 of none. It sorts them.
func median(values []float32) float32 {
	n := len(values)
	if n == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
