package imaging

import (
	"bytes"
	"strings"
	"testing"
)

func TestCover(t *testing.T) {
	m := NewRGB(90, 40)
	for i := range m.Pix {
		m.Pix[i] = uint8(i * 7)
	}
	for _, c := range []struct{ width, height, wholeWidth, wholeHeight int }{
		{64, 64, 144, 64}, {64, 32, 72, 32}, {90, 20, 90, 40}, {128, 32, 128, 57},
	} {
		got, err := Cover(m, c.width, c.height, Bilinear)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := Resize(m, c.wholeWidth, c.wholeHeight, Bilinear)
		if err != nil {
			t.Fatal(err)
		}
		want := Crop(whole, (c.wholeWidth-c.width)/2, (c.wholeHeight-c.height)/2, c.width, c.height)
		if !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("%d×%d: other pixels", c.width, c.height)
		}
	}
	if got, err := Cover(m, 90, 40, Bilinear); err != nil || got != m {
		t.Errorf("an image of the size is not returned as it is: %v", err)
	}
	_, err := Cover(NewRGB(100_000, 1), 4096, 4096, Bilinear)
	if err == nil || !strings.Contains(err.Error(), "oblong") {
		t.Errorf("a line grows without bound: %v", err)
	}
	if _, err := Cover(m, 0, 4, Bilinear); err == nil {
		t.Error("no width is taken")
	}
}

func TestPlain(t *testing.T) {
	colours := NewRGB(4, 4)
	png, err := EncodePNG(colours)
	if err != nil {
		t.Fatal(err)
	}
	jpeg, err := Encode(colours, "jpeg", nil)
	if err != nil {
		t.Fatal(err)
	}
	webp, err := Encode(colours, "webp", nil)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(raw []byte, at int, value byte) []byte {
		raw = bytes.Clone(raw)
		raw[at] = value
		return raw
	}
	transparent := bytes.Clone(png[:33])
	transparent = append(transparent, "\x00\x00\x00\x06tRNS\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	transparent = append(transparent, png[33:]...)
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"PNG": {png, "png"}, "JPEG": {jpeg, "jpeg"}, "WebP": {webp, ""}, "nothing": {nil, ""}, "cut": {png[:20], ""},
		"16 bits": {changed(png, 24, 16), ""}, "alpha": {changed(png, 25, 6), ""}, "palette": {changed(png, 25, 3), ""},
		"gray": {changed(png, 25, 0), "png"}, "transparent": {transparent, ""}, "cut JPEG": {jpeg[:8], ""},
	} {
		if got := Plain(c.raw); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	png, err := EncodePNG(NewRGB(2, 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(png)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if format := Plain(raw); format != "" && format != "png" && format != "jpeg" {
			t.Errorf("format %q", format)
		}
	})
}
