package imaging

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
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
	if _, err := Encode(m, "jpeg", []Text{{TextParameters, strings.Repeat("x", 40_000)}}); err == nil ||
		!strings.Contains(err.Error(), "use png or webp") {
		t.Errorf("a text too long for JPEG: %v", err)
	}
	if _, err := Encode(m, "tiff", nil); err == nil {
		t.Error("an unknown format")
	}
}

// What unpacks to more text than any description has is refused before it is unpacked.
func TestTooMuchText(t *testing.T) {
	plain, err := EncodePNG(NewRGB(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	if _, err := z.Write(make([]byte, maxTextBytes/4)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	file := func(n int, kind string, body []byte) []byte {
		out := bytes.Clone(plain[:pngHeaderEnd])
		for range n {
			out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
			out = append(append(append(out, kind...), body...), 0, 0, 0, 0)
		}
		return append(out, plain[pngHeaderEnd:]...)
	}
	zeros := append([]byte("key\x00\x00"), packed.Bytes()...)
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"few packed texts":  {file(3, "zTXt", zeros), ""},
		"many packed texts": {file(400, "zTXt", zeros), "longer than 16777216 bytes"},
		"many packed international texts": {
			file(400, "iTXt", append([]byte("key\x00\x01\x00\x00\x00"), packed.Bytes()...)),
			"longer than 16777216 bytes",
		},
		"one long text": {
			file(1, "tEXt", append([]byte("key\x00"), make([]byte, maxTextBytes)...)), "longer than 16777216 bytes",
		},
		"many texts":   {file(maxTexts+1, "tEXt", []byte("key\x00value")), "more than 1000 texts"},
		"other chunks": {file(maxTexts+1, "abCd", []byte("key\x00value")), ""},
	} {
		texts, err := Texts(c.raw)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %d texts, %v, want %q", name, len(texts), err, c.want)
		}
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
	f.Add([]byte(pngSignature +
		"\x00\x00\x00\x10zTXtkey\x00\x00\x78\x9c\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"))
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
