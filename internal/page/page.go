// Package page holds what the pages have in common that commands write: their style, and pictures inside them, so that
// a page needs no other file.
package page

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image/jpeg"

	"limner/data/imaging"
)

//go:embed style.css
var style string

// Style is the style sheet of every page: colours for light and dark screens as variables, text, tables, figures. It
// goes into a style element, before the page's own rules.
func Style() template.CSS { return template.CSS(style) }

// Picture is a picture of at most this many pixels across as a URL that holds it, as JPEG.
func Picture(m *imaging.RGB, across int) (template.URL, error) {
	if m.Width > across {
		var err error
		if m, err = imaging.Resize(m, across, max(1, m.Height*across/m.Width), imaging.Lanczos); err != nil {
			return "", fmt.Errorf("picture of a page: %w", err)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m.NRGBA(), &jpeg.Options{Quality: 88}); err != nil {
		return "", fmt.Errorf("picture of a page: %w", err)
	}
	return template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(b.Bytes())), nil
}
