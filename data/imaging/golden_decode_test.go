package imaging

import (
	"bytes"
	"image"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"limner/internal/golden"
)

// decodeGolden is an entry of images2/index.json.
type decodeGolden struct {
	Tolerance string // "exact", or "mean abs 1, 99 % within 4 levels"; one for on_white may follow
	Expected  map[string][]int
}

// white is the background of the expectations named on_white.
var white = [3]uint8{255, 255, 255}

func TestGoldenDecode(t *testing.T) {
	var index struct{ Decode map[string]decodeGolden }
	golden.ReadJSON(t, &index, "images2", "index.json")
	pixels := golden.Tensors(t, golden.Path(t, "images2", "decode.safetensors"))
	if len(index.Decode) == 0 {
		t.Fatal("no files in images2/index.json")
	}
	for name, g := range index.Decode {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(golden.Path(t, "images2", name))
			if err != nil {
				t.Fatal(err)
			}
			m, _, err := Decoding{}.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			compared := 0
			for what := range g.Expected {
				want := pixels[name+"."+what]
				switch what {
				case "upright", "rgb", "dropped", "high_byte":
					compareWithin(t, what, g.Tolerance, want, m)
				case "on_white":
					over, _, err := Decoding{Background: &white}.Decode(raw)
					if err != nil {
						t.Fatal(err)
					}
					compareWithin(t, what, g.Tolerance, want, over)
				case "pillow_rgb":
					if g.Expected["high_byte"] != nil {
						continue // Pillow clips these grays, which Decode does not
					}
					compareWithin(t, what, g.Tolerance, want, m)
				default: // what other rules give
					continue
				}
				compared++
			}
			if compared == 0 {
				t.Errorf("nothing to compare with among %v", g.Expected)
			}
		})
	}
}

var withinLevels = regexp.MustCompile(`mean abs (\d+), (\d+) % within (\d+) levels`)

// compareWithin compares at the tolerance in words that images2/index.json gives; on_white is held to it exactly where
// the decoded pixels are.
func compareWithin(t *testing.T, what, tolerance string, want golden.Tensor, m *RGB) {
	t.Helper()
	mean, share, levels := 0, 100, 0
	if words := withinLevels.FindStringSubmatch(tolerance); words != nil {
		for i, to := range []*int{&mean, &share, &levels} {
			*to, _ = strconv.Atoi(words[i+1])
		}
	} else if !strings.HasPrefix(tolerance, "exact") {
		t.Fatalf("tolerance %q is not understood", tolerance)
	}
	if len(want.Shape) != 3 || m.Height != want.Shape[0] || m.Width != want.Shape[1] {
		t.Fatalf("%s: %d×%d, want %v", what, m.Height, m.Width, want.Shape)
	}
	sum, within := 0, 0
	for i, v := range want.Data {
		diff := max(int(v)-int(m.Pix[i]), int(m.Pix[i])-int(v))
		if sum += diff; diff <= levels {
			within++
		}
	}
	if n := len(want.Data); sum > mean*n || within*100 < share*n {
		t.Errorf("%s: %d of %d values within %d levels, differences of %d in all; want %s",
			what, within, n, levels, sum, tolerance)
	}
}

func TestGoldenNearest(t *testing.T) {
	var index struct{ Nearest []struct{ Case string } }
	golden.ReadJSON(t, &index, "images2", "index.json")
	tensors := golden.Tensors(t, golden.Path(t, "images2", "nearest.safetensors"))
	if len(index.Nearest) == 0 {
		t.Fatal("no cases of nearest in images2/index.json")
	}
	for _, c := range index.Nearest {
		src, want := tensors[c.Case+".src"], tensors[c.Case+".out"]
		from := &RGB{Height: src.Shape[0], Width: src.Shape[1], Pix: src.Data}
		got, err := Resize(from, want.Shape[1], want.Shape[0], Nearest)
		if err != nil {
			t.Fatal(err)
		}
		compareWithin(t, c.Case, "exact", want, got)
	}
}

func TestGoldenResizePillow12(t *testing.T) {
	m := decodeFile(t, golden.Path(t, "images2", "resize_src.png"))
	done := 0
	for key, want := range golden.Tensors(t, golden.Path(t, "images2", "resize.safetensors")) {
		filter, ok := strings.CutSuffix(key, ".pillow12")
		if !ok {
			continue // Pillow 13 where it takes columns first, and the source
		}
		filter, _, _ = strings.Cut(filter, "_")
		got, err := Resize(m, want.Shape[1], want.Shape[0], Filter(filter))
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		compareWithin(t, key, "exact", want, got)
		done++
	}
	if done == 0 {
		t.Fatal("no case in images2/resize.safetensors")
	}
}

func TestDecodeNotesWhatIsLost(t *testing.T) {
	for name, want := range map[string][]Note{
		"rgba.png": {NoteAlpha}, "la.png": {NoteAlpha}, "palette_trns.png": {NoteAlpha}, "trns_rgb.png": {NoteAlpha},
		"alpha.webp": {NoteAlpha}, "gray16.png": {NoteGray16}, "rgb16.png": nil, "orient6.webp": nil,
		"palette.png": nil, "progressive420.jpg": nil,
	} {
		raw, err := os.ReadFile(golden.Path(t, "images2", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, got, err := (Decoding{}).Decode(raw); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: notes %q (%v), want %q", name, got, err, want)
		}
		if _, got, err := (Decoding{Background: &white}).Decode(raw); err != nil || slices.Contains(got, NoteAlpha) {
			t.Errorf("%s over white: notes %q (%v)", name, got, err)
		}
	}
}

func TestParseColour(t *testing.T) {
	for text, want := range map[string][3]uint8{
		"white": {255, 255, 255}, "RebeccaPurple": {0x66, 0x33, 0x99}, "grey": {128, 128, 128},
		"#0a0B0c": {10, 11, 12}, "#f00": {255, 0, 0},
	} {
		if got, err := ParseColour(text); err != nil || got != want {
			t.Errorf("%s: %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "#", "#12", "#12345", "#1234567", "0a0b0c", "blackish", "#+1+2+3", "255,255,255",
	} {
		if got, err := ParseColour(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

// TestAnimationDamaged: an animation whose first frame is missing, cut or outside of its canvas is refused.
func TestAnimationDamaged(t *testing.T) {
	raw, err := os.ReadFile(golden.Path(t, "images2", "animated.webp"))
	if err != nil {
		t.Fatal(err)
	}
	frame := bytes.Index(raw, []byte("ANMF")) + 8
	for name, damage := range map[string]func([]byte){
		"outside of the canvas": func(raw []byte) { raw[frame] = 1 },
		"wider than its pixels": func(raw []byte) { raw[24], raw[frame+6] = 200, 100 },
		"no frame": func(raw []byte) {
			copy(raw[frame-8:], bytes.ReplaceAll(raw[frame-8:], []byte("ANMF"), []byte("XXXX")))
		},
		"longer than the file": func(raw []byte) { raw[frame-2] = 0x7f },
	} {
		damaged := bytes.Clone(raw)
		damage(damaged)
		if _, err := Decode(damaged); err == nil {
			t.Errorf("%s: it is decoded", name)
		}
	}
}

// TestTIFFUpright: TIFF's own orientation tag is EXIF's.
func TestTIFFUpright(t *testing.T) {
	raw, err := os.ReadFile(golden.Path(t, "images2", "none.tif"))
	if err != nil {
		t.Fatal(err)
	}
	lying, err := Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	const samplesPerPixel, onItsSide = 277, 6 // the decoder counts the bits per sample instead
	folder, order := exifFolder(raw)
	for i := range int64(order.Uint16(raw[folder:])) {
		if at := folder + 2 + 12*i; order.Uint16(raw[at:]) == samplesPerPixel {
			order.PutUint16(raw[at:], tagOrientation)
			order.PutUint16(raw[at+8:], onItsSide)
		}
	}
	upright, err := Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if want := orient(lying, onItsSide); upright.Width != lying.Height || !slices.Equal(upright.Pix, want.Pix) {
		t.Errorf("%d×%d of %d×%d is not turned", upright.Width, upright.Height, lying.Width, lying.Height)
	}
	if width, height, err := Size(raw); err != nil || width != upright.Width || height != upright.Height {
		t.Errorf("size %d×%d (%v)", width, height, err)
	}
}

// A GIF's frame may be smaller than its screen.
func TestBackgroundFillsAGIF(t *testing.T) {
	frame := &RGB{Width: 1, Height: 1, Pix: []uint8{9, 9, 9}}
	out := Decoding{Background: &[3]uint8{1, 2, 3}}.onScreen(frame, image.Pt(1, 0), image.Config{Width: 2, Height: 1})
	if want := []uint8{1, 2, 3, 9, 9, 9}; !slices.Equal(out.Pix, want) {
		t.Errorf("got %v, want %v", out.Pix, want)
	}
}
