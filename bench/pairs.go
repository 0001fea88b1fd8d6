package main

import (
	"bytes"
	"fmt"
	"image/jpeg"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/parquetfile"
)

// pairSet is a dataset of pairs that both sides read: a JPEG of quality 92 with halved chroma, as cameras write it, and
// a PNG of what a condition might show of it.
type pairSet struct {
	width, height int
	rows          int
}

// The sets, each with as many different pictures as rows repeat.
var (
	squarePairs    = pairSet{width: 512, height: 512, rows: 2000}
	landscapePairs = pairSet{width: 1024, height: 768, rows: 256}
	rawPairs       = pairSet{width: 1024, height: 768, rows: 64}
)

const (
	differentPairs = 64
	pairBatch      = 4
	stepPairs      = 100 // PAIRS in peer_pairs.py
)

// folder is where the set lies, from the root of the repository.
func (s pairSet) folder() string {
	return filepath.Join(modelsDir, fmt.Sprintf("pairs-%dx%d-%d", s.width, s.height, s.rows))
}

// write writes the set as a parquet file, unless it is there already.
func (s pairSet) write() error {
	path := filepath.Join(s.folder(), "train-00000-of-00001.parquet")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	fmt.Fprintf(os.Stderr, "writing %d pairs into %s\n", s.rows, s.folder())
	images, conditions := make([]parquetfile.Image, differentPairs), make([]parquetfile.Image, differentPairs)
	for i := range images {
		var err error
		if images[i], conditions[i], err = s.pair(uint64(i)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.folder(), 0o755); err != nil {
		return err
	}
	return disk.Replace(path, 0o644, func(f io.Writer) error {
		w, err := parquetfile.NewWriter(f, "bench", []parquetfile.Column{
			{Name: "image", Kind: parquetfile.Pictures}, {Name: "conditioning_image", Kind: parquetfile.Pictures},
			{Name: "text", Kind: parquetfile.Text},
		})
		if err != nil {
			return err
		}
		for i := range s.rows {
			k := i % differentPairs
			if err := w.Write(images[k], conditions[k], fmt.Sprintf("picture %d", i)); err != nil {
				return err
			}
		}
		return w.Close()
	})
}

// pair makes the files of a row.
func (s pairSet) pair(seed uint64) (photo, condition parquetfile.Image, err error) {
	picture, shapes := paint(s.width, s.height, seed)
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, picture.NRGBA(), &jpeg.Options{Quality: 92}); err != nil {
		return photo, condition, err
	}
	png, err := imaging.EncodePNG(shapes)
	return parquetfile.Image{Bytes: buf.Bytes(), Path: fmt.Sprintf("%d.jpg", seed)},
		parquetfile.Image{Bytes: png, Path: fmt.Sprintf("%d.png", seed)}, err
}

// texture is smooth noise of several octaves, about -1 to 1: random heights at the corners of ever smaller squares.
type texture struct {
	heights [][]float64
	sides   []int // of the squares, in pixels
	width   int
}

func newTexture(rng *rand.Rand, width, height int, sides ...int) texture {
	t := texture{sides: sides, width: width}
	for _, side := range sides {
		heights := make([]float64, (width/side+2)*(height/side+2))
		for i := range heights {
			heights[i] = rng.Float64()*2 - 1
		}
		t.heights = append(t.heights, heights)
	}
	return t
}

// at sums the octaves, each half as high as the one before.
func (t texture) at(x, y int) float64 {
	sum, scale := 0.0, 1.0
	for i, side := range t.sides {
		columns := t.width/side + 2
		u, v := float64(x%side)/float64(side), float64(y%side)/float64(side)
		h := t.heights[i][y/side*columns+x/side:]
		top, bottom := h[0]+(h[1]-h[0])*u, h[columns]+(h[columns+1]-h[columns])*u
		sum += scale * (top + (bottom-top)*v)
		scale /= 2
	}
	return sum
}

// paint makes a picture with what photographs have, slow and fast changes of colour, sharp outlines, shadows and the
// sensor's grain, and a second one that shows its shapes by their shading alone, as maps of depth or normals do.
func paint(width, height int, seed uint64) (picture, shapes *imaging.RGB) {
	rng := rand.New(rand.NewPCG(seed, 0x70616972))
	var light [3]texture
	for c := range light {
		light[c] = newTexture(rng, width, height, 256, 64, 16, 4)
	}
	shade := newTexture(rng, width, height, 128, 32)
	type ellipse struct {
		x, y, a, b float64
		colour     [3]float64
		rough      float64
	}
	things := make([]ellipse, 24)
	for i := range things {
		size := float64(height) * (0.03 + 0.22*rng.Float64()*rng.Float64())
		things[i] = ellipse{
			x: rng.Float64() * float64(width), y: rng.Float64() * float64(height),
			a: size * (0.5 + rng.Float64()), b: size * (0.5 + rng.Float64()),
			colour: [3]float64{rng.Float64() * 255, rng.Float64() * 255, rng.Float64() * 255},
			rough:  10 + 50*rng.Float64(),
		}
	}
	picture, shapes = imaging.NewRGB(width, height), imaging.NewRGB(width, height)
	for y := range height {
		for x := range width {
			colour, rough, depth := [3]float64{110, 120, 130}, 45.0, 0.15*float64(y)/float64(height)
			for i, t := range things {
				u, v := (float64(x)-t.x)/t.a, (float64(y)-t.y)/t.b
				if r := u*u + v*v; r < 1 {
					lit := 0.6 + 0.4*math.Sqrt(1-r) - 0.2*u
					for c := range colour {
						colour[c] = t.colour[c] * lit
					}
					rough, depth = t.rough, 0.2+0.03*float64(i)+0.1*math.Sqrt(1-r)
				}
			}
			at := (y*width + x) * 3
			for c := range colour {
				grain := rng.NormFloat64() * 2.5
				picture.Pix[at+c] = uint8(min(max(colour[c]+rough*light[c].at(x, y)+grain, 0), 255))
				shapes.Pix[at+c] = uint8(min(max(200*depth+20*float64(c)+8*shade.at(x, y), 0), 255))
			}
		}
	}
	return picture, shapes
}
