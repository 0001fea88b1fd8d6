package condition

import (
	"testing"

	"limner/data/imaging"
	"limner/internal/golden"
)

// BenchmarkConditions takes each kind of condition from a photograph of 512×512 pixels.
func BenchmarkConditions(b *testing.B) {
	photo := readImage(b, golden.Path(b, "conditions", "astronaut.png"))
	m, err := imaging.Resize(photo, 512, 512, imaging.Bicubic)
	if err != nil {
		b.Fatal(err)
	}
	for _, k := range Kinds() {
		if k.Keypoints {
			continue
		}
		c := k.standard().Draw(0, 0, 0)
		b.Run(k.Name, func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Apply(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
