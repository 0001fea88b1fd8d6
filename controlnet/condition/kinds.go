package condition

import (
	"strings"

	"limner/data/imaging"
)

// Kinds lists the kinds of condition in the order in which help shows them.
func Kinds() []*Kind { return kinds }

// Names lists the names of the kinds, as help shows them.
func Names() string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	return strings.Join(names, ", ")
}

var kinds = []*Kind{
	&cannyKind,
	&outlineKind,
	&scribbleKind,
	&lineartKind,
	&sobelKind,
	&laplacianKind,
	&luminanceKind,
	&thresholdKind,
	&otsuKind,
	&invertKind,
	&blurKind,
	&tileKind,
	&gridKind,
	&t2iColorKind,
	&paletteKind,
	&poseKind,
	&inpaintKind,
}

// outlineKind is canny with half of its usual thresholds, which also finds edges in images that are still soft.
var outlineKind = Kind{
	Name:  "outline",
	Lines: true,
	Help:  "Edges of flat and of soft shapes: canny with half of its thresholds.",
	apply: func(m *imaging.RGB, _ Condition) *imaging.RGB { return Canny(m, CannyLow/2, CannyHigh/2, false) },
}
