package imaging

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/internal/golden"
)

func TestGoldenResize(t *testing.T) {
	dir := golden.Path(t, "images")
	tensors := golden.Tensors(t, filepath.Join(dir, "resize.safetensors"))
	filters := map[string]Filter{}
	for _, f := range []Filter{Nearest, Box, Bilinear, Hamming, Bicubic, Lanczos} {
		filters["pil_"+string(f)+"_down"], filters["pil_"+string(f)+"_up"] = f, f
	}
	done := 0
	for key, want := range tensors {
		name, what, _ := strings.Cut(key, ".")
		raw, err := os.ReadFile(filepath.Join(dir, name+".png"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		height, width := want.Shape[1], want.Shape[2]
		switch {
		case want.Shape[0] != 3: // alpha and gray: not ours
			continue
		case what == "train_crop":
			m, err = Fit(m, height, Bilinear)
		case what == "train_resize_only":
			w, h := FitSize(m.Width, m.Height, min(width, height))
			m, err = Resize(m, w, h, Bilinear)
		case what == "vae_processor":
			m, err = Resize(m, width, height, Lanczos)
		case what == "train_pixel_values" || what == "train_conditioning":
			if m, err = Fit(m, height, Bilinear); err == nil {
				got := AppendCondition(nil, m)
				if what == "train_pixel_values" {
					got = AppendPixels(nil, m)
				}
				compareFloats(t, key, want, got)
			}
		case filters[what] != "":
			if strings.HasSuffix(what, "_up") {
				m = Crop(m, 3, 5, 40-3, 33-5)
			}
			m, err = Resize(m, width, height, filters[what])
		default:
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if done++; want.Dtype == "U8" {
			compareBytes(t, key, want, m)
		}
	}
	if done == 0 {
		t.Fatal("no case in resize.safetensors")
	}
}

func compareBytes(t *testing.T, key string, want golden.Tensor, m *RGB) {
	t.Helper()
	if m.Height != want.Shape[1] || m.Width != want.Shape[2] {
		t.Errorf("%s: %d×%d, want %v", key, m.Height, m.Width, want.Shape)
		return
	}
	for i, v := range want.Data { // channels first
		c, at := i/(m.Width*m.Height), i%(m.Width*m.Height)
		if got := m.Pix[at*3+c]; got != v {
			t.Errorf("%s: channel %d, x %d, y %d: got %d, want %d", key, c, at%m.Width, at/m.Width, got, v)
			return
		}
	}
}

func compareFloats(t *testing.T, key string, want golden.Tensor, got []float32) {
	t.Helper()
	plane := len(got) / 3
	for i := range got {
		c, at := i/plane, i%plane
		w := math.Float32frombits(binary.LittleEndian.Uint32(want.Data[i*4:]))
		if g := got[at*3+c]; g != w {
			t.Errorf("%s: element %d: got %v, want %v", key, i, g, w)
			return
		}
	}
}
