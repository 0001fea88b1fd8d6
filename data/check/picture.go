package check

import (
	"limner/data"
	"limner/data/imaging"
)

// pictureSide is the longest side of a picture as a report shows it.
const pictureSide = 200

// picture is one of a row, reduced.
type picture struct {
	column string
	pixels *imaging.RGB
}

// picturesOf are the pictures of a row, reduced.
func picturesOf(r data.Row) (all []picture) {
	for _, p := range []picture{{"image", r.Image}, {"condition", r.Conditioning}, {"mask", r.Mask}} {
		m := p.pixels
		if m == nil {
			continue
		}
		if longest := max(m.Width, m.Height); longest > pictureSide {
			small, err := imaging.Resize(m, max(1, m.Width*pictureSide/longest), max(1, m.Height*pictureSide/longest),
				imaging.Box)
			if err != nil {
				continue
			}
			p.pixels = small
		}
		all = append(all, p)
	}
	return all
}
