package imaging

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/png"
	"slices"
	"strings"
	"testing"
)

// png16 is a file of a 16-bit gray image.
func png16(t *testing.T, m *Gray16) []byte {
	t.Helper()
	gray := image.NewGray16(image.Rect(0, 0, m.Width, m.Height))
	for i, v := range m.Pix {
		binary.BigEndian.PutUint16(gray.Pix[2*i:], v)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, gray); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGray16(t *testing.T) {
	m := &Gray16{Width: 5, Height: 3}
	for i := range m.Width * m.Height {
		m.Pix = append(m.Pix, uint16(4001*i+7))
	}
	got, err := DecodeGray16(png16(t, m))
	if err != nil || got.Width != m.Width || got.Height != m.Height || !slices.Equal(got.Pix, m.Pix) {
		t.Fatalf("got %v, %v, want %v", got, err, m)
	}
	if most := m.Max(); most != 14*4001+7 {
		t.Errorf("the largest value is %d", most)
	}
	if row := m.Mirror().Pix[5:10]; !slices.Equal(row, []uint16{m.Pix[9], m.Pix[8], m.Pix[7], m.Pix[6], m.Pix[5]}) {
		t.Errorf("mirrored: %v", row)
	}
	if f := (&Gray16{1, 1, []uint16{65535}}).AppendFloats(nil); !slices.Equal(f, []float32{1, 1, 1}) {
		t.Errorf("white is %v", f)
	}
	rgb, err := EncodePNG(NewRGB(2, 2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeGray16(rgb); err == nil || !strings.Contains(err.Error(), "not of 16-bit gray") {
		t.Errorf("of 8 bits: %v", err)
	}
}

// Of values that 8 bits hold, resizing and cropping makes what it makes of 8 bits.
func TestGray16IsFittedAsRGB(t *testing.T) {
	const w, h, side = 23, 40, 16
	deep, flat := &Gray16{Width: w, Height: h, Pix: make([]uint16, w*h)}, NewRGB(w, h)
	for i := range deep.Pix {
		v := uint8(i * i / 7)
		deep.Pix[i] = uint16(v) * 257
		copy(flat.Pix[3*i:], []uint8{v, v, v})
	}
	for _, filter := range []Filter{Nearest, Box, Bilinear, Hamming, Bicubic, Lanczos} {
		got, err := deep.FitAt(side, filter, 0.5, 0.25)
		if err != nil {
			t.Fatal(err)
		}
		want, _, _, err := FitAt(flat, side, filter, 0.5, 0.25)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got.Pix {
			if d := int(v) - 257*int(want.Pix[3*i]); max(d, -d) > 257+1 {
				t.Fatalf("%s: pixel %d is %d, of 8 bits %d", filter, i, v, want.Pix[3*i])
			}
		}
	}
}
