package condition

import "limner/data/imaging"

var thresholdKind = Kind{
	Name: "threshold",
	Help: "White where the image is brighter than a value, else black.",
	Parameters: []Parameter{
		{Name: "value", Default: fixed(127), Most: 254, Whole: true, Help: "What is above it is white."},
		{
			Name: "of", Words: []string{"gray", "min"}, Most: 1,
			Help: "Compares the brightness (gray), or the smallest of red, green and blue (min), as sd-webui does.",
		},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		if c.get("of") == 0 {
			return above(luminanceOf(m), int(c.get("value"))).rgb()
		}
		least := newPlane(m.Width, m.Height)
		for i := range least.pix {
			least.pix[i] = min(m.Pix[3*i], m.Pix[3*i+1], m.Pix[3*i+2])
		}
		return above(least, int(c.get("value"))).rgb()
	},
}

var otsuKind = Kind{
	Name: "otsu",
	Help: "White where the image is brighter than Otsu's threshold between light and dark, else black.",
	apply: func(m *imaging.RGB, _ Condition) *imaging.RGB {
		gray := luminanceOf(m)
		return above(gray, otsu(gray)).rgb()
	},
}

// above makes what is above a threshold white and the rest black, in place.
func above(p plane, threshold int) plane {
	for i, v := range p.pix {
		p.pix[i] = 0
		if int(v) > threshold {
			p.pix[i] = 255
		}
	}
	return p
}

// otsu is the threshold with the largest variance between what is above it and what is not (Otsu 1979), the lowest of
// several; 0 for an image of one gray.
func otsu(p plane) int {
	var counts [256]int
	for _, v := range p.pix {
		counts[v]++
	}
	total := 0
	for v, n := range counts {
		total += v * n
	}
	best, most := 0, 0.0
	below, sum := 0, 0 // of the pixels up to the threshold
	for v, n := range counts {
		below, sum = below+n, sum+v*n
		rest := len(p.pix) - below
		if below == 0 || rest == 0 {
			continue
		}
		d := float64(sum)/float64(below) - float64(total-sum)/float64(rest)
		if variance := float64(below) * float64(rest) * d * d; variance > most {
			best, most = v, variance
		}
	}
	return best
}
