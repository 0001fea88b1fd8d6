package condition

import (
	"fmt"
	"slices"
	"testing"

	"limner/data/imaging"
)

func TestHidden(t *testing.T) {
	for _, shapes := range []string{"mixed", "boxes", "strokes"} {
		for _, size := range [][2]int{{64, 48}, {7, 5}, {1, 1}, {1, 90}} {
			s, err := Parse(fmt.Sprintf("inpaint(shapes=%s, share=rand(0.2, 0.4))", shapes))
			if err != nil {
				t.Fatal(err)
			}
			w, h := size[0], size[1]
			seen := map[string]bool{}
			for row := range int64(8) {
				c := s.Draw(1, row, 0)
				hidden := c.Hidden(w, h)
				again, err := Parse(c.String())
				if err != nil || !slices.Equal(again.Draw(5, 6, 7).Hidden(w, h), hidden) {
					t.Errorf("%s hides something else when it is read again (%v)", c, err)
				}
				count := 0
				m := imaging.NewRGB(w, h)
				for i := range m.Pix {
					m.Pix[i] = 200
				}
				out, err := c.Apply(m)
				if err != nil {
					t.Fatal(err)
				}
				for i, is := range hidden {
					want := uint8(200)
					if is {
						want = 0
						count++
					}
					if out.Pix[3*i] != want {
						t.Fatalf("%s: pixel %d is %d, want %d", c, i, out.Pix[3*i], want)
					}
				}
				if share := float64(count) / float64(w*h); share < c.get("share") || share > 0.7 && w*h > 1000 {
					t.Errorf("%s: %.2f of %d×%d are hidden", c, share, w, h)
				}
				seen[fmt.Sprint(hidden)] = true
			}
			if w*h > 1000 && len(seen) < 8 {
				t.Errorf("%s: %d masks of 8 rows", shapes, len(seen))
			}
		}
	}
}
