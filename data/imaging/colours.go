package imaging

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/image/colornames"
)

// Colour is a CSS colour name and its value.
type Colour struct {
	Name string
	RGB  [3]uint8
}

// The palettes of Circles.
const (
	// PaletteBasic is the 17 colours of CSS 2.1, far enough apart to be recognised in pixels.
	PaletteBasic = "basic"
	// PaletteCSS is every CSS colour name with a distinct value: aliases (cyan, magenta and all grey spellings) are
	// left out.
	PaletteCSS = "css"
)

// rebecca is the one colour of CSS 4 that SVG 1.1, whose names colornames has, lacks.
var rebecca = Colour{Name: "rebeccapurple", RGB: [3]uint8{0x66, 0x33, 0x99}}

// Palette returns the colours of PaletteBasic or PaletteCSS, by name in alphabetical order.
func Palette(name string) ([]Colour, error) {
	var names []string
	switch name {
	case PaletteBasic:
		names = []string{"aqua", "black", "blue", "fuchsia", "gray", "green", "lime", "maroon", "navy",
			"olive", "orange", "purple", "red", "silver", "teal", "white", "yellow"}
	case PaletteCSS:
		for _, n := range colornames.Names {
			if n != "cyan" && n != "magenta" && !strings.Contains(n, "grey") {
				names = append(names, n)
			}
		}
		names = append(names, rebecca.Name)
		slices.Sort(names)
	default:
		return nil, fmt.Errorf("palette %q: want %q or %q", name, PaletteBasic, PaletteCSS)
	}
	colours := make([]Colour, len(names))
	for i, n := range names {
		if colours[i] = rebecca; n != rebecca.Name {
			c := colornames.Map[n]
			colours[i] = Colour{Name: n, RGB: [3]uint8{c.R, c.G, c.B}}
		}
	}
	return colours, nil
}

// NearestColour is the name of the palette's colour at the smallest Euclidean distance in RGB from rgb, the first of
// several; "" for an empty palette.
func NearestColour(rgb [3]uint8, palette []Colour) string {
	name, best := "", -1
	for _, c := range palette {
		distance := 0
		for i := range rgb {
			d := int(rgb[i]) - int(c.RGB[i])
			distance += d * d
		}
		if best < 0 || distance < best {
			name, best = c.Name, distance
		}
	}
	return name
}
