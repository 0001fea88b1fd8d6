package data

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestTexts(t *testing.T) {
	m := NewRGB(5, 3)
	for i := range m.Pix {
		m.Pix[i] = byte(i * 5)
	}
	for _, format := range []string{"png", "jpeg", "webp"} {
		for _, value := range []string{"a cat\nSteps: 20, Größe: 5x3", "猫 🐈\nNegative prompt: 犬", "x"} {
			texts := []Text{{TextLimner, `{"prompt":"é"}`}, {TextParameters, value}}
			raw, err := Encode(m, format, texts)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Texts(raw)
			if err != nil || !slices.Equal(got, texts) {
				t.Errorf("%s: got %q, %v, want %q", format, got, err, texts)
			}
			back, err := Decode(raw)
			if err != nil || back.Width != 5 || back.Height != 3 {
				t.Fatalf("%s: %v", format, err)
			}
			if format != "jpeg" && !bytes.Equal(back.Pix, m.Pix) {
				t.Errorf("%s: other pixels", format)
			}
		}
		plain, err := Encode(m, format, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Texts(plain); err != nil || got != nil {
			t.Errorf("%s without texts: got %q, %v", format, got, err)
		}
	}
	if _, err := Encode(m, "jpeg", []Text{{TextParameters, strings.Repeat("x", 40_000)}}); err == nil || !strings.Contains(err.Error(), "use png or webp") {
		t.Errorf("a text too long for JPEG: %v", err)
	}
	if _, err := Encode(m, "tiff", nil); err == nil {
		t.Error("an unknown format")
	}
}

func FuzzTexts(f *testing.F) {
	m := NewRGB(2, 2)
	for _, format := range []string{"png", "jpeg", "webp"} {
		raw, err := Encode(m, format, []Text{{TextLimner, "{}"}, {TextParameters, "é猫"}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(pngSignature + "\x00\x00\x00\x10zTXtkey\x00\x00\x78\x9c\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		texts, err := Texts(raw)
		total := 0
		for _, text := range texts {
			total += len(text.Value)
		}
		if err == nil && total > 1100*len(raw) { // deflate packs no tighter than 1032 to one
			t.Errorf("%d bytes gave texts of %d", len(raw), total)
		}
	})
}
