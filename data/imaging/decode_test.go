package imaging

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/internal/golden"
)

// TestDecodeAsPIL compares with what PIL made of the same bytes; testdata/decode.py wrote both. Grays of 16 bits are no
// case, since PIL clips them.
func TestDecodeAsPIL(t *testing.T) {
	refs, err := filepath.Glob("testdata/decode/*.ref.png")
	if err != nil || len(refs) == 0 {
		t.Fatalf("no references: %v", err)
	}
	for _, ref := range refs {
		name := strings.TrimSuffix(ref, ".ref.png")
		t.Run(filepath.Base(name), func(t *testing.T) {
			got, want := decodeFile(t, name), decodeFile(t, ref)
			if got.Width != want.Width || got.Height != want.Height {
				t.Fatalf("%d×%d, want %d×%d", got.Width, got.Height, want.Width, want.Height)
			}
			tolerance := 0
			if raw, err := os.ReadFile(name); err != nil {
				t.Fatal(err)
			} else if filepath.Ext(name) == ".jpg" && baselineJPEG(raw) == nil {
				tolerance = 3 // the inverse DCT of image/jpeg is not libjpeg's
			}
			for i, v := range want.Pix {
				if d := int(v) - int(got.Pix[i]); d > tolerance || d < -tolerance {
					t.Fatalf("x %d, y %d, channel %d: got %d, want %d",
						i/3%want.Width, i/3/want.Width, i%3, got.Pix[i], v)
				}
			}
		})
	}
}

func decodeFile(t *testing.T, path string) *RGB {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDecodeRejects(t *testing.T) {
	whole, err := EncodePNG(NewRGB(8, 8))
	if err != nil {
		t.Fatal(err)
	}
	bomb := bytes.Clone(whole)
	binary.BigEndian.PutUint32(bomb[16:], 60_000)
	binary.BigEndian.PutUint32(bomb[20:], 60_000)
	binary.BigEndian.PutUint32(bomb[29:], crc32.ChecksumIEEE(bomb[12:29]))
	for name, tc := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":     {nil, "zero bytes"},
		"text":      {[]byte("hello"), "not an image"},
		"truncated": {whole[:len(whole)-20], "decode PNG"},
		"bomb":      {bomb, "60000×60000 pixels: more than the limit"},
		"jpeg":      {[]byte("\xff\xd8\xff\xe0"), "decode JPEG"},
		"gif":       {[]byte("GIF89a"), "decode GIF"},
		"webp":      {[]byte("RIFF\x00\x00\x00\x00WEBPVP8 "), "decode WebP"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decode(tc.raw); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestWritePNG(t *testing.T) {
	m := NewRGB(32, 20)
	for i := range m.Pix {
		m.Pix[i] = byte(i * i)
	}
	path := filepath.Join(t.TempDir(), "m.png")
	for _, form := range []image.Image{m, m.NRGBA()} {
		if err := WritePNG(path, form); err != nil {
			t.Fatal(err)
		}
		if got := decodeFile(t, path); !bytes.Equal(got.Pix, m.Pix) {
			t.Errorf("%T: other pixels came back", form)
		}
	}
	if err := WritePNG(filepath.Join(path, "below", "a", "file.png"), m); err == nil {
		t.Error("no error for an impossible path")
	}
}

func TestResizeRejects(t *testing.T) {
	m := NewRGB(4, 4)
	if _, err := Resize(m, 0, 4, Bilinear); err == nil {
		t.Error("width 0 accepted")
	}
	if _, err := Resize(m, 2, 2, "sharp"); err == nil || !strings.Contains(err.Error(), `"sharp"`) {
		t.Errorf("unknown filter: %v", err)
	}
	if _, err := Fit(NewRGB(100_000, 1), 4096, Bilinear); err == nil || !strings.Contains(err.Error(), "oblong") {
		t.Errorf("a line grows without bound: %v", err)
	}
	if got, err := Fit(m, 4, Bilinear); err != nil || got != m {
		t.Errorf("an image of the size is not returned as it is: %v", err)
	}
}

// addSeeds adds the files of a pattern, of which there must be some, and further ones.
func addSeeds(f *testing.F, pattern string, further ...string) {
	f.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range append(paths, further...) {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
}

func FuzzDecode(f *testing.F) {
	var further []string
	for _, pattern := range []string{"*6.*", "*.bmp", "*.tif", "animated.*"} {
		further = append(further, golden.Glob(f, "images2", pattern)...)
	}
	addSeeds(f, "testdata/decode/*", further...)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, config, _, err := probe(raw); err == nil && config.Width*config.Height > 1<<22 {
			return // valid, but slow
		}
		m, err := Decode(raw)
		if err == nil && len(m.Pix) != m.Width*m.Height*3 {
			t.Fatalf("%d bytes of pixels for %d×%d", len(m.Pix), m.Width, m.Height)
		}
	})
}
