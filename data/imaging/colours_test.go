package imaging

import "testing"

func TestPalettes(t *testing.T) {
	for name, count := range map[string]int{PaletteBasic: 17, PaletteCSS: 139} {
		palette, err := Palette(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(palette) != count {
			t.Errorf("%s: %d colours, want %d", name, len(palette), count)
		}
		seen := map[[3]uint8]string{}
		for _, c := range palette {
			if other, ok := seen[c.RGB]; ok {
				t.Errorf("%s: %s and %s are one colour", name, other, c.Name)
			}
			seen[c.RGB] = c.Name
			if got := NearestColour(c.RGB, palette); got != c.Name {
				t.Errorf("%s: nearest to %s is %s", name, c.Name, got)
			}
		}
	}
	if _, err := Palette("pastel"); err == nil {
		t.Error("unknown palette accepted")
	}
	if got := NearestColour([3]uint8{250, 10, 5}, []Colour{
		{"red", [3]uint8{255, 0, 0}}, {"blue", [3]uint8{0, 0, 255}},
	}); got != "red" {
		t.Errorf("nearest is %s, want red", got)
	}
}
