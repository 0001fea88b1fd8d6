package condition

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"limner/data/imaging"
	"limner/internal/golden"
)

// goldenIndex is index.json of the goldens of conditions: OpenCV, Pillow and controlnet_aux on photographs.
type goldenIndex struct {
	Photos map[string]struct {
		Size    [2]int         `json:"size"`
		Otsu    float64        `json:"otsu_threshold"`
		Palette [][3]int       `json:"quantize8_palette"`
		Canny   map[string]int `json:"canny_edge_pixels"`
	} `json:"photos"`
	Poses map[string]struct {
		Size [2]int `json:"size"`
	} `json:"poses"`
	HandColours [][3]int `json:"hand_edge_colours"`
}

func readIndex(t *testing.T) goldenIndex {
	raw, err := os.ReadFile(golden.Path(t, "conditions", "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index goldenIndex
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	return index
}

func readImage(t testing.TB, path string) *imaging.RGB {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := imaging.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tolerance is how far values may be off: at most level, in at most share of the values, or of the pixels.
type tolerance struct {
	level  int
	share  float64
	pixels bool
}

// compare fails if an image is not the golden within its tolerance.
func compare(t *testing.T, name string, got, want *imaging.RGB, allowed tolerance) {
	t.Helper()
	if got.Width != want.Width || got.Height != want.Height {
		t.Errorf("%s: %d×%d pixels, want %d×%d", name, got.Width, got.Height, want.Width, want.Height)
		return
	}
	values, pixels, most := 0, 0, 0
	for i := 0; i < len(got.Pix); i += 3 {
		off := false
		for c := range 3 {
			if d := int(got.Pix[i+c]) - int(want.Pix[i+c]); d != 0 {
				values, most, off = values+1, max(most, d, -d), true
			}
		}
		if off {
			pixels++
		}
	}
	share := float64(values) / float64(len(got.Pix))
	if allowed.pixels {
		share = float64(pixels) / float64(len(got.Pix)/3)
	}
	t.Logf("%s: %d values of %d pixels differ (%.3f %%), by at most %d", name, values, pixels, 100*share, most)
	if share > allowed.share || most > allowed.level {
		t.Errorf("%s: %.3f %% differ by at most %d, want at most %.3f %% by %d",
			name, 100*share, most, 100*allowed.share, allowed.level)
	}
}

// take takes a condition from an image.
func take(t *testing.T, text string, m *imaging.RGB) *imaging.RGB {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	before := string(m.Pix)
	out, err := s.Draw(0, 0, 0).Apply(m)
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Pix) != before {
		t.Errorf("%s changed the image", text)
	}
	return out
}

// goldenConditions say which condition the rest of a golden's name is, its numbers in place of $1 and so on, and from
// what it was taken: the photograph, or another golden of it.
var goldenConditions = []struct {
	name, condition, source string
	allowed                 tolerance
}{
	{"gray", "luminance", "", tolerance{}},
	{`blur(\d+)`, "blur(sigma=$1)", "", tolerance{}},
	{`gray_blur(\d+)`, "blur(sigma=$1)", "gray", tolerance{}},
	{`canny_rgb_(\d+)_(\d+)`, "canny(low=$1, high=$2)", "", tolerance{}},
	{`canny_gray_(\d+)_(\d+)`, "canny(low=$1, high=$2)", "gray", tolerance{}},
	{`canny_gray_(\d+)_(\d+)`, "canny(low=$1, high=$2, source=gray)", "", tolerance{}},
	{`canny_rgb_blur(\d+)_(\d+)_(\d+)`, "canny(low=$2, high=$3)", "blur$1", tolerance{}},
	{`canny_rgb_blur(\d+)_(\d+)_(\d+)`, "canny(low=$2, high=$3, blur=$1)", "", tolerance{255, 0.005, true}},
	{`canny_gray_blur(\d+)_(\d+)_(\d+)`, "canny(low=$2, high=$3)", "gray_blur$1", tolerance{}},
	{
		`canny_gray_blur(\d+)_(\d+)_(\d+)`, "canny(low=$2, high=$3, blur=$1, source=gray)", "",
		tolerance{255, 0.005, true},
	},
	{`xdog(\d+)`, "scribble(threshold=$1)", "", tolerance{255, 0.005, true}},
	{`tile(\d+)_(cubic)`, "tile(factor=$1, interpolation=$2)", "", tolerance{1, 0.005, false}},
	{`tile(\d+)_(linear|lanczos4)`, "tile(factor=$1, interpolation=$2)", "", tolerance{1, 0.15, false}},
	{`tile(\d+)_(nearest)`, "tile(factor=$1, interpolation=$2)", "", tolerance{1, 0.005, false}},
	{"otsu", "otsu", "", tolerance{}},
	{`threshold(\d+)`, "threshold(value=$1)", "", tolerance{}},
	{`threshold(\d+)_min`, "threshold(value=$1, of=min)", "", tolerance{}},
	{"invert", "invert", "", tolerance{}},
	{`quantize(\d+)`, "palette(colours=$1)", "", tolerance{255, 0.03, true}},
	{`grid(\d+)`, "grid(size=$1)", "", tolerance{}},
	{"t2i_color", "t2i_color", "", tolerance{1, 1, false}},
	{"sobel", "sobel", "", tolerance{}},
	{"sobel_max", "sobel(scale=max)", "", tolerance{}},
	{`laplacian([13])`, "laplacian(kernel=$1)", "", tolerance{}},
	{"lineart_standard", "lineart", "", tolerance{1, 0.02, true}},
	{`tile(\d+)_down`, "", "", tolerance{}}, // in tests of their own
	{"xdog_d", "", "", tolerance{}},
}

// TestGoldenConditions takes every golden's condition from what it was taken from.
func TestGoldenConditions(t *testing.T) {
	dir := golden.Path(t, "conditions")
	for photo := range readIndex(t).Photos {
		files, err := filepath.Glob(filepath.Join(dir, photo+"_*.png"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no goldens: %v", photo, err)
		}
		for _, file := range files {
			rest := strings.TrimPrefix(strings.TrimSuffix(filepath.Base(file), ".png"), photo+"_")
			known := false
			for _, c := range goldenConditions {
				pattern := regexp.MustCompile("^" + c.name + "$")
				match := pattern.FindStringSubmatchIndex(rest)
				if match == nil {
					continue
				}
				known = true
				if c.condition == "" {
					continue
				}
				source := photo + ".png"
				if c.source != "" {
					source = photo + "_" + string(pattern.ExpandString(nil, c.source, rest, match)) + ".png"
				}
				text := string(pattern.ExpandString(nil, c.condition, rest, match))
				got := take(t, text, readImage(t, filepath.Join(dir, source)))
				compare(t, fmt.Sprintf("%s: %s of %s", filepath.Base(file), text, source),
					got, readImage(t, file), c.allowed)
			}
			if !known {
				t.Errorf("%s: what condition is it?", filepath.Base(file))
			}
		}
	}
}

// TestGoldenConditionShrunk compares what tile makes smaller, and each way to make that larger again.
func TestGoldenConditionShrunk(t *testing.T) {
	dir := golden.Path(t, "conditions")
	for photo := range readIndex(t).Photos {
		m := readImage(t, filepath.Join(dir, photo+".png"))
		files, err := filepath.Glob(filepath.Join(dir, photo+"_tile*_down.png"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no goldens: %v", photo, err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), photo+"_tile"), "_down.png")
			factor, err := strconv.ParseFloat(name, 64)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			down := readImage(t, file)
			compare(t, filepath.Base(file), tileDown(m, factor), down, tolerance{1, 0.005, false})
			for _, c := range []struct {
				name    string
				kernel  interpolation
				allowed tolerance
			}{
				{"cubic", cubic, tolerance{1, 0.005, false}}, {"linear", linear, tolerance{1, 0.15, false}},
				{"lanczos4", lanczos4, tolerance{1, 0.15, false}}, {"nearest", nearest, tolerance{}},
			} {
				up := strings.TrimSuffix(file, "down.png") + c.name + ".png"
				if _, err := os.Stat(up); err != nil {
					continue // not every factor has each
				}
				got := enlarge(down, m.Width, m.Height, c.kernel)
				compare(t, filepath.Base(up), got, readImage(t, up), c.allowed)
			}
		}
	}
}

// TestGoldenConditionParts compares what conditions compute on the way.
func TestGoldenConditionParts(t *testing.T) {
	dir := golden.Path(t, "conditions")
	for photo, want := range readIndex(t).Photos {
		m := readImage(t, filepath.Join(dir, photo+".png"))
		if m.Width != want.Size[0] || m.Height != want.Size[1] {
			t.Errorf("%s: %d×%d pixels, want %v", photo, m.Width, m.Height, want.Size)
		}
		if got := otsu(luminanceOf(m)); float64(got) != want.Otsu {
			t.Errorf("%s: Otsu's threshold is %d, want %g", photo, got, want.Otsu)
		}
		depth := readImage(t, filepath.Join(dir, photo+"_xdog_d.png"))
		compare(t, photo+"_xdog_d.png", xdog(m).rgb(), depth, tolerance{1, 1, false})
		palette := map[[3]int]bool{}
		for _, b := range medianCut(coloursOf(m), len(want.Palette)) {
			palette[b.mean()] = true
		}
		for _, c := range want.Palette {
			if !palette[c] {
				t.Errorf("%s: no colour %v in the palette %v", photo, c, palette)
			}
		}
		for name, count := range want.Canny {
			white := 0
			edges := readImage(t, filepath.Join(dir, photo+"_"+name+".png"))
			for i := 0; i < len(edges.Pix); i += 3 {
				white += int(edges.Pix[i]) / 255
			}
			if white != count {
				t.Errorf("%s_%s.png: %d edge pixels, want %d", photo, name, white, count)
			}
		}
	}
}

// compareDrawing fails if more than 1 % of a canvas differs from the golden, or a pixel that touches no outline of it.
func compareDrawing(t *testing.T, name string, got, want *imaging.RGB) {
	t.Helper()
	compare(t, name, got, want, tolerance{255, 0.01, true})
	at := func(m *imaging.RGB, x, y int) [3]uint8 { return [3]uint8(m.Pix[3*(y*m.Width+x):]) }
	for y := range want.Height {
		for x := range want.Width {
			if at(got, x, y) == at(want, x, y) {
				continue
			}
			outline := false
			for b := max(y-1, 0); b <= min(y+1, want.Height-1); b++ {
				for a := max(x-1, 0); a <= min(x+1, want.Width-1); a++ {
					outline = outline || at(want, a, b) != at(want, x, y)
				}
			}
			if !outline {
				t.Errorf("%s: pixel (%d, %d) differs within a shape", name, x, y)
			}
		}
	}
}

func TestGoldenConditionPose(t *testing.T) {
	index := readIndex(t)
	s, err := Parse("pose")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range index.Poses {
		if strings.HasPrefix(name, "hand_") {
			continue
		}
		raw, err := os.ReadFile(golden.Path(t, "conditions", "pose_"+name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		k, err := ParseKeypoints(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w, h := want.Size[0], want.Size[1]
		if k.Width != w || k.Height != h {
			t.Errorf("%s: a canvas of %d×%d pixels, want %d×%d", name, k.Width, k.Height, w, h)
		}
		got, err := s.Draw(0, 0, 0).Draw(k, w, h, Part{ResizedWidth: w, ResizedHeight: h, Width: w, Height: h})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		compareDrawing(t, "pose_"+name, got, readImage(t, golden.Path(t, "conditions", "pose_"+name+".png")))
	}
}

func TestGoldenConditionHand(t *testing.T) {
	index := readIndex(t)
	for edge, want := range index.HandColours {
		if got := rainbow(edge); [3]int{int(got[0]), int(got[1]), int(got[2])} != want {
			t.Errorf("edge %d has the colour %v, want %v", edge, got, want)
		}
	}
	for name, want := range index.Poses {
		if !strings.HasPrefix(name, "hand_") {
			continue
		}
		raw, err := os.ReadFile(golden.Path(t, "conditions", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var hand struct{ Points []*[2]float64 }
		if err := json.Unmarshal(raw, &hand); err != nil {
			t.Fatal(err)
		}
		c := canvas{imaging.NewRGB(want.Size[0], want.Size[1])}
		var joints []joint
		for _, p := range hand.Points {
			if p == nil {
				joints = append(joints, joint{})
			} else {
				joints = append(joints, joint{p[0] * float64(c.Width), p[1] * float64(c.Height), true})
			}
		}
		c.hand(joints)
		compareDrawing(t, name, c.RGB, readImage(t, golden.Path(t, "conditions", name+".png")))
	}
}
