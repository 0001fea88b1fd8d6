package condition

import (
	"fmt"
	"strings"

	"limner/data/imaging"
)

// Extractor extracts a conditioning image from an image: white lines on black, of the image's size.
type Extractor func(*imaging.RGB) *imaging.RGB

// extractors are the extractors by name.
var extractors = []struct {
	name    string
	extract Extractor
}{
	{"canny", func(m *imaging.RGB) *imaging.RGB { return Canny(m, CannyLow, CannyHigh, false) }},
	{"outline", Outline},
}

// Named finds an extractor: canny or outline.
func Named(name string) (Extractor, error) {
	var names []string
	for _, e := range extractors {
		if e.name == name {
			return e.extract, nil
		}
		names = append(names, e.name)
	}
	return nil, fmt.Errorf("got %q, supported: %s", name, strings.Join(names, ", "))
}
