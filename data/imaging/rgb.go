// Package imaging decodes image files to RGB, turns and resizes them, and writes them with texts in their metadata,
// exactly as the libraries that diffusers uses do (Pillow, libjpeg-turbo, libwebp, torchvision).
package imaging

import (
	"fmt"
	"image"
	"image/color"

	"limner/internal/disk"
)

// RGB is an image of 8-bit red, green and blue, rows from the top, without padding or alpha:
// what PIL's convert("RGB") gives. It implements image.Image.
type RGB struct {
	Width, Height int
	Pix           []uint8 // [Height, Width, 3]
}

// NewRGB returns a black image.
func NewRGB(width, height int) *RGB {
	return &RGB{Width: width, Height: height, Pix: make([]uint8, width*height*3)}
}

// ColorModel implements image.Image.
func (m *RGB) ColorModel() color.Model { return color.NRGBAModel }

// Bounds implements image.Image.
func (m *RGB) Bounds() image.Rectangle { return image.Rect(0, 0, m.Width, m.Height) }

// At implements image.Image.
func (m *RGB) At(x, y int) color.Color {
	if !(image.Point{X: x, Y: y}.In(m.Bounds())) {
		return color.NRGBA{}
	}
	p := m.Pix[(y*m.Width+x)*3:]
	return color.NRGBA{R: p[0], G: p[1], B: p[2], A: 255}
}

// Opaque says that the image has no alpha.
func (m *RGB) Opaque() bool { return true }

// NRGBA copies the image into the standard library's form.
func (m *RGB) NRGBA() *image.NRGBA {
	out := image.NewNRGBA(m.Bounds())
	for i, j := 0, 0; i < len(m.Pix); i, j = i+3, j+4 {
		out.Pix[j], out.Pix[j+1], out.Pix[j+2], out.Pix[j+3] = m.Pix[i], m.Pix[i+1], m.Pix[i+2], 255
	}
	return out
}

// WritePNG writes the image to path; a reader sees the complete file or the previous one, never a part.
func WritePNG(path string, m image.Image) error {
	raw, err := EncodePNG(m)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := disk.WriteFile(path, raw, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
