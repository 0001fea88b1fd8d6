package imaging

import (
	"bytes"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"testing"
)

// sameJPEG fails if baselineJPEG takes a file that image/jpeg refuses, or gives another size.
func sameJPEG(t *testing.T, what string, raw []byte) (taken bool) {
	t.Helper()
	got := baselineJPEG(raw)
	if got == nil {
		return false
	}
	want, err := jpeg.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%s: taken, image/jpeg says: %v", what, err)
	}
	if got.Bounds() != want.Bounds() {
		t.Fatalf("%s: %v, image/jpeg has %v", what, got.Bounds(), want.Bounds())
	}
	return true
}

// smoothRGB has slow changes of colour, which a JPEG keeps.
func smoothRGB(rng *rand.Rand, width, height int) *RGB {
	small := randomRGB(rng, 1+width/8, 1+height/8)
	m, err := Resize(small, width, height, Bicubic)
	if err != nil {
		panic(err)
	}
	return m
}

// Files as image/jpeg writes them are taken, and differ from what it makes of them by its inverse DCT alone. Damaged
// ones are taken only where image/jpeg takes them.
func TestBaselineJPEGAsImageJPEG(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range 60 {
		var m image.Image = smoothRGB(rng, side(rng), side(rng))
		if i%3 == 0 {
			gray := image.NewGray(m.Bounds())
			for i := range gray.Pix {
				gray.Pix[i] = m.(*RGB).Pix[i*3]
			}
			m = gray
		}
		var buf bytes.Buffer
		if err := jpeg.Encode(&buf, m, &jpeg.Options{Quality: 1 + rng.IntN(100)}); err != nil {
			t.Fatal(err)
		}
		raw := buf.Bytes()
		if !sameJPEG(t, "a whole file", raw) {
			t.Fatalf("%v: not taken", m.Bounds())
		}
		planes, err := jpeg.Decode(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		want, err := fromJPEG(planes)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range want.Pix {
			if d := int(v) - int(got.Pix[i]); d < -4 || d > 4 {
				t.Fatalf("%v: sample %d is %d, that of image/jpeg %d", m.Bounds(), i, got.Pix[i], v)
			}
		}
		for range 30 {
			damaged := bytes.Clone(raw)
			damaged[rng.IntN(len(raw))] ^= 1 << rng.IntN(8)
			sameJPEG(t, "a damaged file", damaged[:len(raw)-rng.IntN(2)*rng.IntN(len(raw))])
		}
	}
}

func FuzzBaselineJPEG(f *testing.F) {
	addSeeds(f, "testdata/decode/*.jpg")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if config, err := jpeg.DecodeConfig(bytes.NewReader(raw)); err == nil && config.Width*config.Height < 1<<22 {
			sameJPEG(t, "a file", raw)
		}
	})
}
