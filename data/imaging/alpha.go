package imaging

import (
	"fmt"
	"image"
	"strconv"
	"strings"

	"golang.org/x/image/colornames"
)

// opaque says whether a decoded image has no transparent pixel.
func opaque(m image.Image) bool {
	o, ok := m.(interface{ Opaque() bool })
	return !ok || o.Opaque()
}

// alphas are the alphas of a picture's pixels, row by row: of 16-bit ones the high byte, as for colours.
func alphas(m image.Image) []uint8 {
	b := m.Bounds()
	out := make([]uint8, 0, b.Dx()*b.Dy())
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			switch m := m.(type) {
			case *image.NRGBA:
				out = append(out, m.Pix[m.PixOffset(x, y)+3])
			case *image.NYCbCrA:
				out = append(out, m.A[m.AOffset(x, y)])
			default:
				_, _, _, a := m.At(x, y).RGBA()
				out = append(out, uint8(a>>8))
			}
		}
	}
	return out
}

// composeOver puts a colour behind the image, bit-identical to PIL's Image.alpha_composite over an opaque one.
func (m *RGB) composeOver(background [3]uint8, alpha []uint8) {
	for i, a := range alpha {
		for k, below := range background {
			const bits = 7
			above := &m.Pix[i*3+k]
			v := (uint32(*above)*uint32(a)+uint32(below)*uint32(255-a))<<bits + 0x80<<bits
			*above = uint8((v>>8 + v) >> 8 >> bits)
		}
	}
}

// ParseColour reads a colour: a CSS name, #RRGGBB or #RGB.
func ParseColour(text string) ([3]uint8, error) {
	name := strings.ToLower(text)
	if c, ok := colornames.Map[name]; ok {
		return [3]uint8{c.R, c.G, c.B}, nil
	}
	if name == rebecca.Name {
		return rebecca.RGB, nil
	}
	digits, ok := strings.CutPrefix(name, "#")
	if ok && len(digits) == 3 {
		digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
	}
	v, err := strconv.ParseUint(digits, 16, 24)
	if !ok || len(digits) != 6 || err != nil {
		return [3]uint8{}, fmt.Errorf("colour %q: want a CSS name such as white, or #RRGGBB", text)
	}
	return [3]uint8{uint8(v >> 16), uint8(v >> 8), uint8(v)}, nil
}
