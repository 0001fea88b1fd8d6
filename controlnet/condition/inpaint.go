package condition

import (
	"math"
	"math/rand/v2"
	"slices"

	"limner/data/imaging"
)

var inpaintKind = Kind{
	Name:  "inpaint",
	Help:  "The image with places hidden that are to be painted anew: they are -1 for the ControlNet, as in diffusers.",
	Hides: true,
	Parameters: []Parameter{
		{
			Name: "share", Default: Range{0.1, 0.5}, Least: 0.01, Most: 0.9,
			Help: "Shapes are drawn until at least so much of the image is hidden.",
		},
		{
			Name: "shapes", Words: []string{"mixed", "boxes", "strokes"}, Most: 2,
			Help: "Boxes, strokes of a brush, or now one, now the other.",
		},
		{
			Name: "seed", Default: Range{0, math.MaxUint32}, Most: math.MaxUint32, Whole: true,
			Help: "Of the shapes.",
		},
	},
	apply: func(m *imaging.RGB, c Condition) *imaging.RGB {
		out := &imaging.RGB{Width: m.Width, Height: m.Height, Pix: slices.Clone(m.Pix)}
		for i, hidden := range c.Hidden(m.Width, m.Height) {
			if hidden {
				clear(out.Pix[3*i : 3*i+3])
			}
		}
		return out
	},
}

// Hidden says of each pixel of a conditioning image whether it is hidden: it is black where Apply shows it, and -1 in
// what a ControlNet is given. nil: the kind hides none.
func (c Condition) Hidden(width, height int) []bool {
	if c.kind == nil || !c.kind.Hides {
		return nil
	}
	m := mask{width: width, height: height, hidden: make([]bool, width*height)}
	rng := rand.New(rand.NewPCG(uint64(c.get("seed")), 0))
	want := int(math.Ceil(c.get("share") * float64(width*height)))
	shapes := int(c.get("shapes"))
	for m.count < want {
		// The draws do not depend on what is hidden already.
		if strokes := rng.IntN(2) == 1; shapes == 2 || shapes == 0 && strokes {
			m.stroke(rng)
		} else {
			m.box(rng)
		}
	}
	return m.hidden
}

// AppendFloats appends a conditioning image to dst as a ControlNet is given it: floats in [0, 1], and -1 where it is
// hidden, which diffusers' inpainting ControlNets were trained with. hidden may be nil.
func AppendFloats(dst []float32, m *imaging.RGB, hidden []bool) []float32 {
	from := len(dst)
	dst = imaging.AppendCondition(dst, m)
	for i, is := range hidden {
		if is {
			p := dst[from+3*i : from+3*i+3]
			p[0], p[1], p[2] = -1, -1, -1
		}
	}
	return dst
}

// mask is what is hidden of an image.
type mask struct {
	width, height int
	hidden        []bool
	count         int // of them
}

// row hides a row of pixels from left to right, without right.
func (m *mask) row(y, left, right int) {
	if y < 0 || y >= m.height {
		return
	}
	for x := max(left, 0); x < min(right, m.width); x++ {
		if i := y*m.width + x; !m.hidden[i] {
			m.hidden[i] = true
			m.count++
		}
	}
}

// box hides a box of an eighth to half of each side.
func (m *mask) box(rng *rand.Rand) {
	w, h := boxSide(rng, m.width), boxSide(rng, m.height)
	left, top := rng.IntN(m.width-w+1), rng.IntN(m.height-h+1)
	for y := top; y < top+h; y++ {
		m.row(y, left, left+w)
	}
}

func boxSide(rng *rand.Rand, side int) int {
	least := max(1, side/8)
	return least + rng.IntN(max(1, side/2-least+1))
}

// stroke hides what a round brush passes over on a path of some straight pieces, which turns at each by up to 70° (as
// free-form masks do, Yu et al. 2019).
func (m *mask) stroke(rng *rand.Rand) {
	side := float64(min(m.width, m.height))
	x, y := rng.Float64()*float64(m.width), rng.Float64()*float64(m.height)
	angle := rng.Float64() * 2 * math.Pi
	radius := max(0.5, side*(0.02+0.05*rng.Float64()))
	for range 3 + rng.IntN(6) {
		const turn = 70 * math.Pi / 180
		angle += (2*rng.Float64() - 1) * turn
		length := side * (0.05 + 0.15*rng.Float64())
		sin, cos := math.Sincos(angle)
		for at := 0.0; at <= length; at += radius / 2 {
			m.disc(x+at*cos, y+at*sin, radius)
		}
		x, y = x+length*cos, y+length*sin
		// A path that leaves the image goes on from its edge.
		x, y = min(max(x, 0), float64(m.width)), min(max(y, 0), float64(m.height))
	}
}

func (m *mask) disc(x, y, radius float64) {
	for row := int(math.Ceil(y - radius)); float64(row) <= y+radius; row++ {
		d := float64(row) - y
		half := math.Sqrt(radius*radius - d*d)
		m.row(row, int(math.Ceil(x-half)), int(math.Floor(x+half))+1)
	}
}
