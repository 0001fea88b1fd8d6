package sample

import (
	"slices"
	"strings"
	"testing"

	"limner/data/imaging"
)

func filled(width, height int, value uint8) *imaging.RGB {
	m := imaging.NewRGB(width, height)
	for i := range m.Pix {
		m.Pix[i] = value
	}
	return m
}

func TestGrid(t *testing.T) {
	rows := [][]*imaging.RGB{{filled(20, 10, 10), filled(30, 12, 20)}, {nil, filled(30, 8, 30)}}
	g := Grid(rows, 2)
	if g.Width != 2+20+2+30+2 || g.Height != 2+12+2+8+2 {
		t.Fatalf("got %d×%d", g.Width, g.Height)
	}
	for _, c := range []struct {
		what string
		x, y int
		want uint8
	}{
		{"edge", 1, 1, 255}, {"first", 2, 2, 10}, {"first's last pixel", 21, 11, 10}, {"below the first", 2, 12, 255},
		{"second", 24, 2, 20}, {"empty place", 2, 16, 255}, {"second row", 53, 23, 30}, {"corner", 55, 25, 255},
	} {
		if got := g.Pix[(c.y*g.Width+c.x)*3]; got != c.want {
			t.Errorf("%s (%d, %d): got %d, want %d", c.what, c.x, c.y, got, c.want)
		}
	}
	titled := Grid(rows, 2, "one", "a title that is too long")
	if titled.Height != g.Height+titleLines*13+2 || titled.Width != g.Width {
		t.Errorf("with titles: got %d×%d", titled.Width, titled.Height)
	}
	dark := map[string]int{}
	for y := range 2 + titleLines*13 {
		for x := range titled.Width {
			if titled.Pix[(y*titled.Width+x)*3] == 0 {
				switch {
				case x >= 2 && x < 22:
					dark["first"]++
				case x >= 24 && x < 54:
					dark["second"]++
				default:
					dark["outside"]++
				}
			}
		}
	}
	if dark["first"] == 0 || dark["second"] == 0 || dark["outside"] > 0 {
		t.Errorf("dark pixels of titles: %v", dark)
	}
	if got := titled.Pix[((2+titleLines*13+2)*titled.Width+2)*3]; got != 10 {
		t.Errorf("first image below the titles: got %d, want 10", got)
	}
	if empty := Grid(nil, 3); empty.Width != 3 || empty.Height != 3 {
		t.Errorf("empty grid: got %d×%d", empty.Width, empty.Height)
	}
}

// TestTitleLines: at 64 pixels, which hold nine letters, a setting's value can still be read.
func TestTitleLines(t *testing.T) {
	for text, want := range map[string][]string{
		"":                       nil,
		"guidance":               {"guidance"},
		"num_inference_steps=20": {"num_infer", "ence_", "steps=20"},
		"scheduler=ddim":         {"scheduler", "=ddim"},
		"a red circle with a blue background and more": {"a red", "circle", "with a", "blue ba.."},
	} {
		if got := lines(text, 9); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := lines("abc", 0); len(got) != 3 {
		t.Errorf("no room: got %q", got)
	}
}

// Beside images of 64 pixels each setting that --xy takes still shows its value.
func TestTitlesKeepValues(t *testing.T) {
	const letters = 64 / 7
	for title, want := range map[string][]string{
		"seed 12":                            {"seed 12"},
		"guidance_scale 7.5":                 {"guidance_", "scale 7.5"},
		"num_inference_steps 20":             {"num_infer", "ence_", "steps 20"},
		"controlnet_conditioning_scale 0.75": {"controlne", "t_conditi", "oning_..", "0.75"},
		"control_guidance_start 0.25":        {"control_", "guidance_", "start", "0.25"},
		"scheduler dpm++_2m_karras":          {"scheduler", "dpm++_", "2m_karras"},
		"prompt " + strings.Repeat("x", 40):  {"prompt", "xxxxxxxxx", "xxxxxxxxx", "xxxxxxx.."},
	} {
		got := lines(title, letters)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", title, got, want)
		}
	}
}
