package batch

import (
	"fmt"
	"image"
	"math"

	"limner/data/imaging"
	"limner/sample"
)

const (
	gridGap    = 8       // between images of a grid, in pixels
	gridSide   = 1 << 13 // the longest side of a grid: what viewers show
	gridPixels = 1 << 25 // of a grid at most
)

// place is a picture of a grid, which is read when its turn comes. The zero value is empty.
type place struct {
	width, height int
	read          func() (*imaging.RGB, error)
	text          bool // it is not made smaller
}

// scaled is the size of a place in a grid whose pictures are a k-th of their sizes.
func (p place) scaled(k int) image.Point {
	if p.text || k == 1 {
		return image.Pt(p.width, p.height)
	}
	return image.Pt((p.width+k-1)/k, (p.height+k-1)/k)
}

// result is the place of an image that was sampled, read from its file.
func (l *List) result(j *job) place {
	return place{width: j.Width, height: j.Height, read: func() (*imaging.RGB, error) { return l.sampled(j) }}
}

// sampled reads an image that was sampled.
func (l *List) sampled(j *job) (*imaging.RGB, error) {
	path := l.options.path(l.record.Images[j.index].File)
	raw, err := imaging.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	m, err := imaging.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", path, err)
	}
	return m, nil
}

// writeGrid writes a grid of all images: a row for each prompt, beginning with its control images; single images
// without one fill a square.
func (l *List) writeGrid() error {
	m, err := l.overview(gridFile, l.gridRows())
	if m == nil || err != nil {
		return err
	}
	return l.writePicture(gridFile, m)
}

// gridRows are the places of the grid. A prompt whose row would be longer than a grid may be has several.
func (l *List) gridRows() [][]place {
	per, controls := l.options.NumImages, len(l.jobs[0].ControlImage)
	square := int(math.Ceil(math.Sqrt(float64(len(l.jobs)))))
	if per == 1 && controls == 0 {
		per = square
	}
	widest := 0
	for _, j := range l.jobs {
		widest = max(widest, j.Width)
	}
	columns := per
	if (controls+per)*(widest+gridGap)+gridGap > gridSide {
		columns = min(per, square)
	}
	var rows [][]place
	for i := 0; i < len(l.jobs); i += per {
		for k := i; k < min(i+per, len(l.jobs)); k += columns {
			row := make([]place, controls)
			if j := l.jobs[i]; k == i {
				for c, path := range j.ControlImage {
					row[c] = place{width: j.Width, height: j.Height, read: func() (*imaging.RGB, error) {
						l.pictures.next()
						return l.pictures.sized(controlFlag, path, j)
					}}
				}
			}
			for _, j := range l.jobs[k:min(k+columns, i+per, len(l.jobs))] {
				row = append(row, l.result(j))
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// fit finds the k for which pictures of a k-th of their sizes fit into one that memory and viewers can hold, and their
// sizes then; 0 is none.
func fit(rows [][]place, titles []string) (k int, sizes [][]image.Point) {
	most := 0
	sizes = make([][]image.Point, len(rows))
	for k = 1; k == 1 || k <= most; k++ {
		for i, row := range rows {
			sizes[i] = sizes[i][:0]
			for _, p := range row {
				sizes[i], most = append(sizes[i], p.scaled(k)), max(most, p.width, p.height)
			}
		}
		if size := sample.GridSize(sizes, gridGap, titles...); max(size.X, size.Y) <= gridSide &&
			size.X*size.Y <= gridPixels {
			return k, sizes
		}
	}
	return 0, nil
}

// overview puts pictures into one. Where it would be too large they are made smaller, and where they are too many even
// then, there is none; both are said.
func (l *List) overview(name string, rows [][]place, titles ...string) (*imaging.RGB, error) {
	k, sizes := fit(rows, titles)
	switch {
	case k == 0:
		fmt.Fprintf(l.host.Log, "%s is left out: the images are too many for one picture\n", name)
		return nil, nil
	case k > 1:
		fmt.Fprintf(l.host.Log, "%s shows the images at 1/%d of their size: they are many\n", name, k)
	}
	pictures := make([][]*imaging.RGB, len(rows))
	for i, row := range rows {
		for c, p := range row {
			var m *imaging.RGB
			if p.read != nil {
				var err error
				if m, err = p.read(); err != nil {
					return nil, err
				}
				if size := sizes[i][c]; size.X != m.Width || size.Y != m.Height {
					if m, err = imaging.Resize(m, size.X, size.Y, imaging.Lanczos); err != nil {
						return nil, err
					}
				}
			}
			pictures[i] = append(pictures[i], m)
		}
	}
	return sample.Grid(pictures, gridGap, titles...), nil
}

// writePicture writes a picture that goes with the images.
func (l *List) writePicture(name string, m *imaging.RGB) error {
	raw, err := imaging.EncodePNG(m)
	if err != nil {
		return err
	}
	return l.out.write(name, raw)
}
