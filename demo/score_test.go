package demo

import (
	"testing"

	"limner/data/circles"
	"limner/data/imaging"
)

func TestScoreOfKnownPictures(t *testing.T) {
	set := circles.Default()
	set.Size = Size
	cases := unseen(set, 8)
	var exact, swapped []*imaging.RGB
	for _, c := range cases {
		exact = append(exact, c.Image())
		c.Disc, c.Background = c.Background, c.Disc
		swapped = append(swapped, c.Image())
	}
	with, without, colours, err := score(set, cases, exact, swapped)
	if err != nil {
		t.Fatal(err)
	}
	if with < 0.97 || colours != 1 {
		t.Errorf("the very pictures that were asked for: overlap %.3f, want 0.97 or more; colours %.2f, want 1",
			with, colours)
	}
	if without > 0.03 {
		t.Errorf("discs and backgrounds swapped: overlap %.3f, want almost 0", without)
	}
	if _, _, colours, err = score(set, cases, swapped, exact); err != nil || colours != 0 {
		t.Errorf("discs and backgrounds swapped: colours %.2f, want 0 (%v)", colours, err)
	}
}

func TestIoUOfHalf(t *testing.T) {
	c := circles.Circle{
		Size: Size, X: 32, Y: 32, Radius: 20, Disc: imaging.Colour{Name: "red", RGB: [3]uint8{255, 0, 0}},
		Background: imaging.Colour{Name: "blue", RGB: [3]uint8{0, 0, 255}},
	}
	m := c.Image()
	for y := range Size / 2 { // the upper half is all background
		for x := range Size {
			copy(m.Pix[(y*Size+x)*3:], []uint8{0, 0, 255})
		}
	}
	if got := iou(c, m); got < 0.48 || got > 0.52 {
		t.Errorf("half a disc overlaps the whole by %.3f, want 0.5", got)
	}
}
