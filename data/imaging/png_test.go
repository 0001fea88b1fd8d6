package imaging

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"slices"
	"testing"
)

// samePNG fails if plainPNG takes a file that image/png refuses, or gives other pixels.
func samePNG(t *testing.T, what string, raw []byte) (taken bool) {
	t.Helper()
	got := plainPNG(raw)
	if got == nil {
		return false
	}
	want, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%s: taken, image/png says: %v", what, err)
	}
	if got.Bounds() != want.Bounds() || !slices.Equal(toRGB(got).Pix, toRGB(want).Pix) ||
		opaque(got) != opaque(want) || !slices.Equal(alphas(got), alphas(want)) {
		t.Fatalf("%s: other pixels than image/png's", what)
	}
	return true
}

// withFilters is the PNG of a picture of which each row has another filter.
func withFilters(t *testing.T, rows []uint8, width, height, samples int) []byte {
	t.Helper()
	stride := width * samples
	var filtered []byte
	for y := range height {
		filter := byte(y % 5)
		filtered = append(filtered, filter)
		for x := range stride {
			at := func(dx, dy int) int {
				if x-dx < 0 || y-dy < 0 {
					return 0
				}
				return int(rows[(y-dy)*stride+x-dx])
			}
			a, b, c := at(samples, 0), at(0, 1), at(samples, 1)
			paeth, best := a, max(b-c, c-b)
			if d := max(a-c, c-a); d < best {
				paeth, best = b, d
			}
			if d := max(a+b-2*c, 2*c-a-b); d < best {
				paeth = c
			}
			predicted := []int{0, a, b, (a + b) / 2, paeth}[filter]
			filtered = append(filtered, byte(at(0, 0)-predicted))
		}
	}
	raw := []byte(pngSignature)
	chunk := func(name string, data []byte) {
		raw = binary.BigEndian.AppendUint32(raw, uint32(len(data)))
		raw = append(append(raw, name...), data...)
		raw = binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw[len(raw)-len(data)-4:]))
	}
	header := binary.BigEndian.AppendUint32(nil, uint32(width))
	header = binary.BigEndian.AppendUint32(header, uint32(height))
	chunk("IHDR", append(header, 8, map[int]byte{1: 0, 3: 2, 4: 6}[samples], 0, 0, 0))
	chunk("tIME", make([]byte, 7))
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	if _, err := z.Write(filtered); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	stream := packed.Bytes()
	half := len(stream) / 2
	chunk("IDAT", stream[:half])
	chunk("IDAT", stream[half:])
	chunk("tEXt", []byte("a\x00b"))
	chunk("IEND", nil)
	return raw
}

func TestPlainPNGAsImagePNG(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 100 {
		samples, width, height := []int{1, 3, 4}[i%3], side(rng), side(rng)
		rows := make([]uint8, width*height*samples)
		for i := range rows {
			rows[i] = uint8(rng.Uint32()) >> rng.IntN(8)
		}
		raw := withFilters(t, rows, width, height, samples)
		if !samePNG(t, "a whole file", raw) {
			t.Fatalf("%d×%d of %d samples: not taken", width, height, samples)
		}
		for range 20 { // damaged ones are taken only where image/png takes them
			damaged := bytes.Clone(raw)
			damaged[rng.IntN(len(raw))] ^= 1 << rng.IntN(8)
			samePNG(t, "a damaged file", damaged[:len(raw)-rng.IntN(2)*rng.IntN(len(raw))])
		}
	}
	// Files of other forms are image/png's.
	for name, m := range map[string]image.Image{
		"palette": image.NewPaletted(image.Rect(0, 0, 3, 3), color.Palette{color.Black, color.White}),
		"16 bits": image.NewNRGBA64(image.Rect(0, 0, 3, 3)),
	} {
		raw, err := EncodePNG(m)
		if err != nil {
			t.Fatal(err)
		}
		if plainPNG(raw) != nil {
			t.Errorf("%s: taken", name)
		}
		if _, err := Decode(raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A picture is encoded to the same bytes whatever its encoder encoded before, and image/png reads it.
func TestEncodedPNG(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	var e PNGEncoder
	for i := range 100 {
		m := randomRGB(rng, side(rng), side(rng))
		switch i % 3 {
		case 1:
			m = smoothRGB(rng, m.Width, m.Height)
		case 2:
			clear(m.Pix)
		}
		raw, err := e.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		alone, err := EncodePNG(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := png.Decode(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(toRGB(got).Pix, m.Pix) || !bytes.Equal(raw, alone) {
			t.Fatalf("%d×%d: other pixels came back, or other bytes were written", m.Width, m.Height)
		}
	}
	if _, err := EncodePNG(NewRGB(0, 3)); err == nil {
		t.Error("an empty picture was encoded")
	}
}

// A stream that goes on, ends early or has a wrong sum is left to image/png, which refuses it.
func TestPlainPNGRefuses(t *testing.T) {
	raw := withFilters(t, make([]uint8, 3*16*16), 16, 16, 3)
	for name, size := range map[string]int{"one row more": 15, "one row less": 17} {
		other := bytes.Clone(raw)
		binary.BigEndian.PutUint32(other[20:], uint32(size))
		binary.BigEndian.PutUint32(other[29:], crc32.ChecksumIEEE(other[12:29]))
		if samePNG(t, name, other) {
			t.Errorf("%s: taken", name)
		}
		if _, err := Decode(other); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

func FuzzPlainPNG(f *testing.F) {
	addSeeds(f, "testdata/decode/*.png")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if config, err := png.DecodeConfig(bytes.NewReader(raw)); err == nil && config.Width*config.Height < 1<<22 {
			samePNG(t, "a file", raw)
		}
	})
}
