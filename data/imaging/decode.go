package imaging

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"

	"limner/internal/disk"
)

// MaxPixels is the largest picture that is decoded, the size at which PIL warns of a decompression
// bomb: a few bytes of PNG can claim gigabytes.
const MaxPixels = 89_478_485

// MaxFileBytes is the largest image file that is read: more than MaxPixels take in any format.
const MaxFileBytes = 1 << 30

// ReadFile reads an image file: a regular file of at most MaxFileBytes.
func ReadFile(path string) ([]byte, error) { return disk.ReadFile(path, MaxFileBytes) }

// errNoImage is the error for bytes in none of the supported formats.
var errNoImage = errors.New("not an image: want PNG, JPEG, GIF, WebP, BMP or TIFF bytes")

// Decoding says how an image's alpha is handled, for which RGB has no place.
type Decoding struct {
	// Background is the colour behind an image that is not opaque; nil drops alpha and keeps the colours below it.
	Background *[3]uint8
}

// NewDecoding is the decoding over a background, see [ParseColour]; "" drops alpha.
func NewDecoding(background string) (Decoding, error) {
	if background == "" {
		return Decoding{}, nil
	}
	colour, err := ParseColour(background)
	if err != nil {
		return Decoding{}, fmt.Errorf("background: %w", err)
	}
	return Decoding{Background: &colour}, nil
}

// DecodeFile reads an image file and decodes it; raw is what it holds. The notes of [Decoding.Decode] are left out.
func (d Decoding) DecodeFile(path string) (raw []byte, m *RGB, err error) {
	if raw, err = ReadFile(path); err != nil {
		return nil, nil, err
	}
	if m, _, err = d.Decode(raw); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return raw, m, nil
}

// Note says that an image lost something in the conversion to RGB.
type Note string

// The notes of Decoding.Decode.
const (
	NoteAlpha Note = "the picture is not opaque: its alpha is dropped, as Pillow does; " +
		"background puts a colour behind it"
	NoteGray16 Note = "of 16-bit gray the high byte is taken, where Pillow makes nearly all of it white"
	// NoteDark16 is for those that take all 16 bits.
	NoteDark16 Note = "no value of its 16-bit gray is above 255 of 65535, so that it is nearly black: " +
		"scale values to the whole range"
)

// Decode reads PNG, JPEG, GIF (its first frame) or WebP bytes as PIL's convert("RGB") does: alpha is dropped, not
// blended; 16-bit colours keep their high byte, and so, unlike in PIL, do 16-bit grays; a JPEG is what libjpeg makes
// of it, to the bit where it is a baseline file of gray or YCbCr, else within 3 levels. An image is turned upright by
// its EXIF orientation, as the datasets library does.
func Decode(raw []byte) (*RGB, error) {
	m, _, err := Decoding{}.Decode(raw)
	return m, err
}

// Decode is [Decode] with the background colour, and with notes of what was lost.
func (d Decoding) Decode(raw []byte) (*RGB, []Note, error) {
	format, config, decode, err := probe(raw)
	if err != nil {
		return nil, nil, err
	}
	if config.Width < 1 || config.Height < 1 {
		return nil, nil, fmt.Errorf("%s of %d×%d pixels", format, config.Width, config.Height)
	}
	if int64(config.Width)*int64(config.Height) > MaxPixels {
		return nil, nil, fmt.Errorf("%s of %d×%d pixels: more than the limit of %d",
			format, config.Width, config.Height, MaxPixels)
	}
	m, err := decode(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, fmt.Errorf("decode %s: %w", format, err)
	}
	out, err := convert(format, m)
	if err != nil {
		return nil, nil, fmt.Errorf("decode %s: %w", format, err)
	}
	var notes []Note
	if _, gray16 := m.(*image.Gray16); gray16 {
		notes = append(notes, NoteGray16)
	}
	switch {
	case opaque(m):
	case d.Background != nil:
		out.composeOver(*d.Background, alphas(m))
	default:
		notes = append(notes, NoteAlpha)
	}
	if format == "GIF" || format == "WebP" { // the frame may be smaller than the screen
		out = d.onScreen(out, m.Bounds().Min, config)
	}
	return orient(out, exifOrientation(raw)), notes, nil
}

// Size reads the width and the height of an image when upright, from its header alone.
func Size(raw []byte) (width, height int, err error) {
	format, config, _, err := probe(raw)
	if err != nil {
		return 0, 0, err
	}
	if config.Width < 1 || config.Height < 1 {
		return 0, 0, fmt.Errorf("%s of %d×%d pixels", format, config.Width, config.Height)
	}
	if exifOrientation(raw) > 4 { // width and height are exchanged
		return config.Height, config.Width, nil
	}
	return config.Width, config.Height, nil
}

// convert converts a decoder's image to RGB.
func convert(format string, m image.Image) (*RGB, error) {
	switch format {
	case "JPEG":
		return fromJPEG(m)
	case "WebP":
		return fromWebP(m), nil
	}
	return toRGB(m), nil
}

func isPNG(raw []byte) bool  { return bytes.HasPrefix(raw, []byte(pngSignature)) }
func isJPEG(raw []byte) bool { return bytes.HasPrefix(raw, []byte("\xff\xd8\xff")) }
func isTIFF(raw []byte) bool {
	return bytes.HasPrefix(raw, []byte("II*\x00")) || bytes.HasPrefix(raw, []byte("MM\x00*"))
}
func isWebP(raw []byte) bool {
	return len(raw) >= 12 && string(raw[:4]) == "RIFF" && string(raw[8:12]) == "WEBP"
}

// probe recognises the format by its first bytes and reads the header.
func probe(raw []byte) (
	format string, config image.Config, decode func(*bytes.Reader) (image.Image, error), err error,
) {
	r := bytes.NewReader(raw)
	switch {
	case len(raw) == 0:
		return "", config, nil, errors.New("zero bytes")
	case isPNG(raw):
		format, decode = "PNG", func(*bytes.Reader) (image.Image, error) { return decodePNG(raw) }
		config, err = png.DecodeConfig(r)
	case isJPEG(raw):
		format, decode = "JPEG", func(*bytes.Reader) (image.Image, error) { return decodeJPEG(raw) }
		config, err = jpeg.DecodeConfig(r)
	case bytes.HasPrefix(raw, []byte("GIF8")):
		format, decode = "GIF", func(r *bytes.Reader) (image.Image, error) { return gif.Decode(r) }
		config, err = gif.DecodeConfig(r)
	case bytes.HasPrefix(raw, []byte("BM")):
		format, decode = "BMP", func(r *bytes.Reader) (image.Image, error) { return bmp.Decode(r) }
		config, err = bmp.DecodeConfig(r)
	case isTIFF(raw):
		format, decode = "TIFF", func(r *bytes.Reader) (image.Image, error) { return tiff.Decode(r) }
		config, err = tiff.DecodeConfig(r)
	case animatedWebP(raw):
		format, decode = "WebP", func(*bytes.Reader) (image.Image, error) { return firstFrame(raw) }
		config, err = animationConfig(raw)
	case isWebP(raw):
		format, decode = "WebP", func(r *bytes.Reader) (image.Image, error) { return webp.Decode(r) }
		config, err = webp.DecodeConfig(r)
	default:
		return "", config, nil, errNoImage
	}
	if err != nil {
		return "", config, nil, fmt.Errorf("decode %s: %w", format, err)
	}
	return format, config, decode, nil
}

// toRGB converts the images of the PNG decoder, and of WebP's lossless form.
func toRGB(m image.Image) *RGB {
	b := m.Bounds()
	out := NewRGB(b.Dx(), b.Dy())
	rows := func(pix []uint8, stride, bytesPerPixel int, convert func(to, from []uint8)) *RGB {
		for y := range out.Height {
			from, to := pix[y*stride:], out.Pix[y*out.Width*3:]
			for x := range out.Width {
				convert(to[x*3:x*3+3], from[x*bytesPerPixel:])
			}
		}
		return out
	}
	first3 := func(to, from []uint8) { copy(to, from[:3]) }
	high3 := func(to, from []uint8) { to[0], to[1], to[2] = from[0], from[2], from[4] }
	switch m := m.(type) {
	case *RGB:
		return m
	case *image.NRGBA:
		return rows(m.Pix, m.Stride, 4, first3)
	case *image.RGBA:
		if m.Opaque() { // else of TIFF, multiplied by alpha
			return rows(m.Pix, m.Stride, 4, first3)
		}
	case *image.NRGBA64:
		return rows(m.Pix, m.Stride, 8, high3)
	case *image.RGBA64:
		if m.Opaque() {
			return rows(m.Pix, m.Stride, 8, high3)
		}
	case *image.Gray:
		return rows(m.Pix, m.Stride, 1, func(to, from []uint8) { to[0], to[1], to[2] = from[0], from[0], from[0] })
	case *image.Gray16:
		return rows(m.Pix, m.Stride, 2, func(to, from []uint8) { to[0], to[1], to[2] = from[0], from[0], from[0] })
	case *image.Paletted:
		colours := paletteRGB(m.Palette)
		return rows(m.Pix, m.Stride, 1, func(to, from []uint8) { copy(to, colours[from[0]][:]) })
	}
	for y := range out.Height {
		for x := range out.Width {
			c := color.NRGBAModel.Convert(m.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
			copy(out.Pix[(y*out.Width+x)*3:], []uint8{c.R, c.G, c.B})
		}
	}
	return out
}

// paletteRGB lists the colours without their alpha; an index beyond the palette is black.
func paletteRGB(p color.Palette) (colours [256][3]uint8) {
	for i, c := range p[:min(len(p), len(colours))] {
		n := color.NRGBAModel.Convert(c).(color.NRGBA)
		colours[i] = [3]uint8{n.R, n.G, n.B}
	}
	return colours
}

// onScreen puts a frame on a GIF's screen, which elsewhere has the background colour, or black.
func (d Decoding) onScreen(frame *RGB, at image.Point, screen image.Config) *RGB {
	if frame.Width == screen.Width && frame.Height == screen.Height {
		return frame
	}
	out := NewRGB(screen.Width, screen.Height)
	if d.Background != nil {
		for i := range out.Pix {
			out.Pix[i] = d.Background[i%3]
		}
	}
	for y := range frame.Height {
		copy(out.Pix[((at.Y+y)*out.Width+at.X)*3:], frame.Pix[y*frame.Width*3:(y+1)*frame.Width*3])
	}
	return out
}
