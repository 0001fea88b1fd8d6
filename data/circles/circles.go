// Package circles draws a synthetic dataset: captioned discs and their outlines.
package circles

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"limner/data/imaging"
	"limner/internal/settings"
)

// Set describes a synthetic dataset in the manner of fill50k: each example is a disc of one
// colour on a background of another, its outline as the condition, and a caption naming both colours. Its fields are
// flags of limner data synth circles.
type Set struct {
	Count        int    `json:"count" default:"4096" help:"Examples to write."`
	Size         int    `json:"size" default:"64" help:"Side of the pictures, in pixels."`
	Seed         uint64 `json:"seed" default:"0" help:"Another seed gives other examples."`
	Palette      string `json:"palette" default:"basic" help:"basic: 17 colours that are easy to distinguish; css: all CSS colour names."`
	RowsPerShard int    `json:"rows_per_shard" kong:"-" default:"8192"` // rows of one parquet file
}

// Default is a set for the demo: small images in colours that are easy to distinguish.
func Default() Set { return settings.Default[Set]() }

// Validate reports every unusable field.
func (c Set) Validate() error {
	var errs []error
	if c.Count < 1 {
		errs = append(errs, fmt.Errorf("count %d: want at least 1 example", c.Count))
	}
	if c.Size < 16 || c.Size > 4096 {
		errs = append(errs, fmt.Errorf("size %d: want 16 to 4096 pixels", c.Size))
	}
	if c.RowsPerShard < 1 {
		errs = append(errs, fmt.Errorf("rows per shard %d: want at least 1", c.RowsPerShard))
	} else if shards := c.shards(); shards > 99_999 {
		errs = append(errs, fmt.Errorf("rows per shard %d: %d examples would take %d files, want at most 99999",
			c.RowsPerShard, c.Count, shards))
	}
	if _, err := imaging.Palette(c.Palette); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Set) shards() int { return (c.Count + c.RowsPerShard - 1) / c.RowsPerShard }

// Circle is one example. Positions are in pixels from the top left corner of the picture, so that
// the first pixel's centre is at 0.5, and are multiples of 1/16.
type Circle struct {
	Size       int
	X, Y       float64 // centre
	Radius     float64
	Disc       imaging.Colour
	Background imaging.Colour
}

// Caption names both colours.
func (c Circle) Caption() string {
	return fmt.Sprintf("%s circle with %s background", c.Disc.Name, c.Background.Name)
}

// Example is example i, a function of (Size, Palette, Seed, i) alone; i may be Count or more, which gives examples that
// the written set does not have. The radius is 12 to 35 % of the side, and at least seven eighths of the diameter lie
// inside the picture. c must be valid.
func (c Set) Example(i int) Circle {
	palette, err := imaging.Palette(c.Palette)
	if err != nil || c.Size < 1 {
		return Circle{}
	}
	var key [32]byte
	copy(key[:16], "limner circles")
	binary.LittleEndian.PutUint64(key[16:], c.Seed)
	binary.LittleEndian.PutUint64(key[24:], uint64(i))
	rng := rand.New(rand.NewChaCha8(key))

	disc := rng.IntN(len(palette))
	background := (disc + 1 + rng.IntN(len(palette)-1)) % len(palette)
	// All lengths are multiples of 1/16 of a pixel, so the drawing below is exact on every machine.
	side := c.Size * 16
	radius := side*12/100 + rng.IntN(side*23/100+1)
	margin := radius * 3 / 4
	x := margin + rng.IntN(side-2*margin+1)
	y := margin + rng.IntN(side-2*margin+1)
	return Circle{
		Size: c.Size, X: float64(x) / 16, Y: float64(y) / 16, Radius: float64(radius) / 16,
		Disc: palette[disc], Background: palette[background],
	}
}

// Image is the training picture: the filled disc on its background, with a smooth edge.
func (c Circle) Image() *imaging.RGB {
	return c.draw(c.Background.RGB, c.Disc.RGB, 0, c.Radius)
}

// Condition is the conditioning picture: the outline in white on black, 1.5 pixels wide at 64.
func (c Circle) Condition() *imaging.RGB {
	half := max(float64(c.Size)*0.75/64, 0.5)
	return c.draw([3]uint8{}, [3]uint8{255, 255, 255}, c.Radius-half, c.Radius+half)
}

// draw paints the points at a distance of inner to outer from the centre over the background. A pixel mixes the two by
// the share of its 8×8 points that are covered.
func (c Circle) draw(background, paint [3]uint8, inner, outer float64) *imaging.RGB {
	m := imaging.NewRGB(c.Size, c.Size)
	for y := range c.Size {
		for x := range c.Size {
			covered := c.coverage(x, y, inner, outer)
			p := m.Pix[(y*c.Size+x)*3:]
			for k := range 3 {
				p[k] = uint8((int(background[k])*(64-covered) + int(paint[k])*covered + 32) / 64)
			}
		}
	}
	return m
}

// coverage counts those of a pixel's 64 points that lie in the ring.
func (c Circle) coverage(x, y int, inner, outer float64) int {
	// A pixel reaches less than 1 from its centre: away from the edges all of its points are covered, or none.
	dx, dy := float64(x)+0.5-c.X, float64(y)+0.5-c.Y
	d2 := dx*dx + dy*dy
	switch {
	case d2 > (outer+1)*(outer+1), inner > 1 && d2 < (inner-1)*(inner-1):
		return 0
	case outer > 1 && d2 < (outer-1)*(outer-1) && (inner <= 0 || d2 > (inner+1)*(inner+1)):
		return 64
	}
	n := 0
	for j := range 8 {
		for i := range 8 {
			sx := float64(x) + (float64(i)+0.5)/8 - c.X
			sy := float64(y) + (float64(j)+0.5)/8 - c.Y
			if r2 := sx*sx + sy*sy; r2 <= outer*outer && (inner <= 0 || r2 >= inner*inner) {
				n++
			}
		}
	}
	return n
}

// Mask says for each pixel, row by row, whether its centre is in the disc.
func (c Circle) Mask() []bool {
	mask := make([]bool, c.Size*c.Size)
	for y := range c.Size {
		for x := range c.Size {
			dx, dy := float64(x)+0.5-c.X, float64(y)+0.5-c.Y
			mask[y*c.Size+x] = dx*dx+dy*dy <= c.Radius*c.Radius
		}
	}
	return mask
}
