package quality

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"limner/data/imaging"
)

// Sides of the reductions of a picture, in pixels: what edges are taken of, what the hash is taken of, and the colours
// by which candidates are compared.
const (
	reducedSide = 128
	hashSide    = 32
	lumaSide    = 8
	chromaSide  = 4
)

// Reduced is a picture of 128×128 pixels that stands for a larger one, and the SHA-256 of the larger one's size and
// pixels, cut to 16 bytes.
type Reduced struct {
	Sum   [16]byte
	small *imaging.RGB
}

// Reduce reduces a picture. It fails for one without pixels.
func Reduce(m *imaging.RGB) (*Reduced, error) {
	small, err := imaging.Resize(m, reducedSide, reducedSide, imaging.Bilinear)
	if err != nil {
		return nil, fmt.Errorf("reduce picture: %w", err)
	}
	h := sha256.New()
	var size [8]byte
	binary.LittleEndian.PutUint32(size[:4], uint32(m.Width))
	binary.LittleEndian.PutUint32(size[4:], uint32(m.Height))
	h.Write(size[:])
	h.Write(m.Pix)
	return &Reduced{Sum: [16]byte(h.Sum(nil)), small: small}, nil
}

// Print is what is remembered of a picture to find it again: 120 bytes.
type Print struct {
	Sum [16]byte // of the pixels, see Reduced
	// Hash has a bit for each of the 63 lowest frequencies of the luma but its mean, see [Reduced.Print].
	Hash uint64
	// colours are 8×8 means of the luma, and 4×4 of Cb and of Cr.
	colours [lumaSide*lumaSide + 2*chromaSide*chromaSide]uint8
}

// hashThreshold is how large a frequency's coefficient must be for its bit, in levels of 255: more than what noise and
// encoding make of one that is 0, so that the bits of smooth pictures do not follow noise.
const hashThreshold = 2

// Print takes a picture's print. Its hash is the perceptual hash by discrete cosines: a bit is 1 if the coefficient of
// its frequency, of the luma at 32×32, is larger than 2 levels. Bit 8·v+u is that of u half waves across and v down.
func (r *Reduced) Print() Print {
	p := Print{Sum: r.Sum}
	fine := planes(r.small)
	for i, c := range coefficients(fine[0]) {
		if i > 0 && c > hashThreshold {
			p.Hash |= 1 << i
		}
	}
	at := p.colours[:0]
	for i, side := range []int{lumaSide, chromaSide, chromaSide} {
		for _, v := range means(fine[i], hashSide, side) {
			at = append(at, uint8(math.Round(v)))
		}
	}
	return p
}

// cosines are those of the discrete cosine transform: cosines[u][x] = cos(π·u·(x+½)/32).
var cosines = func() (c [8][hashSide]float64) {
	for u := range c {
		for x := range c[u] {
			c[u][x] = math.Cos(math.Pi * float64(u) * (float64(x) + 0.5) / hashSide)
		}
	}
	return c
}()

// coefficients are those of the orthonormal transform of 32×32 values: at 8·v+u that for u half waves across and v
// down. The first is not scaled.
func coefficients(values []float64) (c [64]float64) {
	for y := range hashSide {
		for u := range 8 {
			across := 0.0
			for x, value := range values[y*hashSide : (y+1)*hashSide] {
				across += value * cosines[u][x]
			}
			for v := range 8 {
				c[8*v+u] += across * cosines[v][y]
			}
		}
	}
	for i := range c {
		scale := 2.0 / hashSide
		if i < 8 || i%8 == 0 {
			scale /= math.Sqrt2
		}
		c[i] *= scale
	}
	return c
}

// planes are luma, Cb and Cr, 0 to 255, of a reduced picture averaged to 32×32.
func planes(m *imaging.RGB) (p [3][]float64) {
	var channels [3][]float64
	for c := range channels {
		channels[c] = make([]float64, m.Width*m.Height)
		for i := range channels[c] {
			channels[c][i] = float64(m.Pix[3*i+c])
		}
		channels[c] = means(channels[c], m.Width, hashSide)
		p[c] = make([]float64, hashSide*hashSide)
	}
	for i := range p[0] {
		r, g, b := channels[0][i], channels[1][i], channels[2][i]
		y := 0.299*r + 0.587*g + 0.114*b
		p[0][i], p[1][i], p[2][i] = y, min(255, 128+0.564*(b-y)), min(255, 128+0.713*(r-y))
	}
	return p
}

// means averages from×from values to×to, which must divide it.
func means(values []float64, from, to int) []float64 {
	out, k := make([]float64, to*to), from/to
	for y := range from {
		row := out[y/k*to : (y/k+1)*to]
		for x, v := range values[y*from : (y+1)*from] {
			row[x/k] += v
		}
	}
	for i := range out {
		out[i] /= float64(k * k)
	}
	return out
}

// Same says whether the pictures of two prints look the same: hashes that differ in at most hashDistance bits, and
// colours that differ by no more than encoding and resizing change. It holds for copies that were encoded again with
// usual losses, resized, or both, and not for copies that were cropped, turned, mirrored or retouched.
func (p *Print) Same(o *Print) bool {
	return p.Sum == o.Sum || bits.OnesCount64(p.Hash^o.Hash) <= hashDistance && p.sameColours(o)
}

// sameColours compares the mean square of the differences with the colours' own variance. Encoding a photograph again,
// even at a third of its size, changes a few ten-thousandths of that; a shape that moves by a hundredth of the picture
// changes a few thousandths. The floor is for pictures with next to no contrast.
func (p *Print) sameColours(o *Print) bool {
	const share, floor = 0.001, 0.4
	difference, variance := 0.0, 0.0
	for _, part := range [][2]int{
		{0, lumaSide * lumaSide},
		{lumaSide * lumaSide, lumaSide*lumaSide + chromaSide*chromaSide},
		{lumaSide*lumaSide + chromaSide*chromaSide, len(p.colours)},
	} {
		sum, squares := 0.0, 0.0
		for i := part[0]; i < part[1]; i++ {
			v, d := float64(p.colours[i]), float64(p.colours[i])-float64(o.colours[i])
			sum += v
			squares += v * v
			difference += d * d
		}
		variance += squares - sum*sum/float64(part[1]-part[0])
	}
	n := float64(len(p.colours))
	return difference/n <= floor+share*variance/n
}
