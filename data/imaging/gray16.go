package imaging

import (
	"bytes"
	"fmt"
	"image"
	"math"
)

// Gray16 is an image of 16-bit gray, rows from the top, such as a map of depths.
type Gray16 struct {
	Width, Height int
	Pix           []uint16 // [Height, Width]
}

// DecodeGray16 reads all 16 bits of an image for which [Decoding.Decode] notes NoteGray16, turned upright like there.
// It fails for other images.
func DecodeGray16(raw []byte) (*Gray16, error) {
	format, config, decode, err := probe(raw)
	if err != nil {
		return nil, err
	}
	if config.Width < 1 || config.Height < 1 || int64(config.Width)*int64(config.Height) > MaxPixels {
		return nil, fmt.Errorf("%s of %d×%d pixels: want at most %d", format, config.Width, config.Height, MaxPixels)
	}
	m, err := decode(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", format, err)
	}
	gray, ok := m.(*image.Gray16)
	if !ok {
		return nil, fmt.Errorf("decode %s: it is not of 16-bit gray", format)
	}
	// Both bytes of a value are turned like two colours of a pixel.
	packed := NewRGB(config.Width, config.Height)
	for y := range config.Height {
		row := gray.Pix[y*gray.Stride:]
		for x := range config.Width {
			copy(packed.Pix[3*(y*config.Width+x):][:2], row[2*x:])
		}
	}
	packed = orient(packed, exifOrientation(raw))
	out := &Gray16{Width: packed.Width, Height: packed.Height, Pix: make([]uint16, packed.Width*packed.Height)}
	for i := range out.Pix {
		out.Pix[i] = uint16(packed.Pix[3*i])<<8 | uint16(packed.Pix[3*i+1])
	}
	return out, nil
}

// Max is the largest value.
func (m *Gray16) Max() (most uint16) {
	for _, v := range m.Pix {
		most = max(most, v)
	}
	return most
}

// FitAt is what [FitAt] makes of an image of 8 bits, with values rounded to 16 bits after rows and after columns.
func (m *Gray16) FitAt(side int, filter Filter, x, y float64) (*Gray16, error) {
	if m.Width == side && m.Height == side {
		return m, nil
	}
	width, height := FitSize(m.Width, m.Height, side)
	if int64(width)*int64(height) > MaxPixels {
		return nil, fmt.Errorf("fit %d×%d to %d: the picture is too oblong", m.Width, m.Height, side)
	}
	left, top := int(math.RoundToEven(float64(width-side)*x)), int(math.RoundToEven(float64(height-side)*y))
	columns, err := windows(m.Width, width, filter)
	if err != nil {
		return nil, err
	}
	rows, err := windows(m.Height, height, filter)
	if err != nil {
		return nil, err
	}
	wide := &Gray16{Width: side, Height: m.Height, Pix: make([]uint16, side*m.Height)}
	for at := range m.Height {
		row := m.Pix[at*m.Width : (at+1)*m.Width]
		for i, w := range columns[left : left+side] {
			wide.Pix[at*side+i] = w.of(row, 1)
		}
	}
	out := &Gray16{Width: side, Height: side, Pix: make([]uint16, side*side)}
	for at, w := range rows[top : top+side] {
		for i := range side {
			out.Pix[at*side+i] = w.of(wide.Pix[i:], side)
		}
	}
	return out, nil
}

// Mirror returns the image with left and right exchanged.
func (m *Gray16) Mirror() *Gray16 {
	out := &Gray16{Width: m.Width, Height: m.Height, Pix: make([]uint16, len(m.Pix))}
	for i, v := range m.Pix {
		out.Pix[i-i%m.Width+m.Width-1-i%m.Width] = v
	}
	return out
}

// AppendFloats appends the image to dst as floats in [0, 1], three equal ones a pixel: a conditioning image.
func (m *Gray16) AppendFloats(dst []float32) []float32 {
	for _, v := range m.Pix {
		f := float32(v) / math.MaxUint16
		dst = append(dst, f, f, f)
	}
	return dst
}

// window is the inputs of one output sample, with their weights.
type window struct {
	first   int
	weights []float64
}

// of is the weighed sum of samples that are stride apart.
func (w window) of(samples []uint16, stride int) uint16 {
	sum := 0.5
	for i, weight := range w.weights {
		sum += weight * float64(samples[(w.first+i)*stride])
	}
	return uint16(min(max(math.Floor(sum), 0), math.MaxUint16))
}

// windows are those of resizing a line of in samples to out.
func windows(in, out int, filter Filter) ([]window, error) {
	list := make([]window, out)
	if filter == Nearest || in == out {
		for i, from := range nearestOf(in, out) {
			list[i] = window{from, []float64{1}}
		}
		return list, nil
	}
	weight, support, err := filter.kernel()
	if err != nil {
		return nil, err
	}
	scale := float64(in) / float64(out)
	widen := max(scale, 1)
	support *= widen
	for i := range list {
		centre := (float64(i) + 0.5) * scale
		first, last := max(int(centre-support+0.5), 0), min(int(centre+support+0.5), in)
		weights, sum := make([]float64, last-first), 0.0
		for j := range weights {
			weights[j] = weight((float64(first+j) - centre + 0.5) / widen)
			sum += weights[j]
		}
		for j := range weights {
			weights[j] /= sum
		}
		list[i] = window{first, weights}
	}
	return list, nil
}
