package imaging

import (
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// plainResize is Resize in plain loops.
func plainResize(m *RGB, width, height int, filter Filter) *RGB {
	weight, support, err := filter.kernel()
	if err != nil {
		panic(err)
	}
	// along resizes one axis: sample i of a line is at the line's start plus i steps.
	along := func(in, out int, lines func(yield func(from, to int) bool), step, stepOut int, from, to []uint8) {
		scale := float64(in) / float64(out)
		widen := max(scale, 1)
		for i := range out {
			centre := (float64(i) + 0.5) * scale
			first, last := max(int(centre-support*widen+0.5), 0), min(int(centre+support*widen+0.5), in)
			weights, sum := make([]float64, last-first), 0.0
			for j := range weights {
				weights[j] = weight((float64(j+first) - centre + 0.5) * (1 / widen))
				sum += weights[j]
			}
			for start, startOut := range lines {
				total := int32(1 << (weightBits - 1))
				for j, w := range weights {
					if sum != 0 {
						w /= sum
					}
					total += int32(from[start+(first+j)*step]) * int32(w*(1<<weightBits)+math.Copysign(0.5, w))
				}
				to[startOut+i*stepOut] = clip8(total >> weightBits)
			}
		}
	}
	if width != m.Width {
		out := NewRGB(width, m.Height)
		along(m.Width, width, func(yield func(from, to int) bool) {
			for y := range m.Height * 3 {
				if !yield(y/3*m.Width*3+y%3, y/3*width*3+y%3) {
					return
				}
			}
		}, 3, 3, m.Pix, out.Pix)
		m = out
	}
	if height != m.Height {
		out := NewRGB(width, height)
		along(m.Height, height, func(yield func(from, to int) bool) {
			for x := range width * 3 {
				if !yield(x, x) {
					return
				}
			}
		}, width*3, width*3, m.Pix, out.Pix)
		m = out
	}
	return m
}

// side draws a side of a picture: few pixels more often than many.
func side(rng *rand.Rand) int { return 1 + rng.IntN(1+rng.IntN(1+rng.IntN(150))) }

func randomRGB(rng *rand.Rand, width, height int) *RGB {
	m := NewRGB(width, height)
	for i := range m.Pix {
		m.Pix[i] = uint8(rng.Uint32())
		if rng.IntN(4) == 0 {
			m.Pix[i] = uint8(255 * rng.IntN(2))
		}
	}
	return m
}

// Vectors, plain C and plain loops of Go resize to the same bytes, whole pictures and parts.
func TestResizeAsPlainLoops(t *testing.T) {
	defer func(wide bool) { wideVectors = wide }(wideVectors)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		m := randomRGB(rng, side(rng), side(rng))
		width, height := side(rng), side(rng)
		switch i % 8 {
		case 0:
			width = m.Width
		case 1:
			height = m.Height
		case 2:
			m = randomRGB(rng, 1+rng.IntN(4), 1+rng.IntN(4))
		case 3:
			width, height = 1+rng.IntN(2), 1+rng.IntN(2)
		}
		filter := []Filter{Box, Bilinear, Hamming, Bicubic, Lanczos}[rng.IntN(5)]
		want := plainResize(m, width, height, filter)
		part := image.Rect(rng.IntN(width), rng.IntN(height), 0, 0)
		part.Max = part.Min.Add(image.Pt(1+rng.IntN(width-part.Min.X), 1+rng.IntN(height-part.Min.Y)))
		wantPart := Crop(want, part.Min.X, part.Min.Y, part.Dx(), part.Dy())
		for _, wide := range []bool{true, false} {
			if wideVectors = wide && wideVectors; wide && !wideVectors {
				continue
			}
			what := fmt.Sprintf("%d×%d to %d×%d by %s, vectors %v", m.Width, m.Height, width, height, filter, wide)
			got, err := Resize(m, width, height, filter)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Pix, want.Pix) {
				t.Errorf("%s: other bytes", what)
			}
			if got, err = resizePart(m, width, height, filter, part); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Pix, wantPart.Pix) || got.Width != part.Dx() || got.Height != part.Dy() {
				t.Errorf("%s, part %v: other bytes", what, part)
			}
		}
	}
}

// plainChroma is libjpeg's upsampling of one sample, in words of its documentation: ¾ of the nearest and ¼ of the next
// one, in each direction that has half as many samples.
func plainChroma(plane []uint8, stride, width, height, stepX, stepY, x, y int) int {
	at := func(x, y int) int { return int(plane[min(max(y, 0), height-1)*stride+min(max(x, 0), width-1)]) }
	nearX, nearY := x/stepX, y/stepY
	besideX, besideY := nearX+2*(x%2)-1, nearY+2*(y%2)-1
	switch {
	case stepX == 1 && stepY == 1:
		return at(nearX, nearY)
	case stepX == 1:
		return (3*at(nearX, nearY) + at(nearX, besideY) + 1 + y%2) >> 2
	case stepX > 2 || width <= 2:
		return at(nearX, nearY)
	case stepY == 1:
		return (3*at(nearX, nearY) + at(besideX, nearY) + 1 + x%2) >> 2
	}
	near, beside := 3*at(nearX, nearY)+at(nearX, besideY), 3*at(besideX, nearY)+at(besideX, besideY)
	return (3*near + beside + 8 - x%2) >> 4
}

func TestYCbCrAsPlainLoops(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for ratio, steps := range map[image.YCbCrSubsampleRatio][2]int{
		image.YCbCrSubsampleRatio444: {1, 1}, image.YCbCrSubsampleRatio422: {2, 1},
		image.YCbCrSubsampleRatio420: {2, 2}, image.YCbCrSubsampleRatio440: {1, 2},
		image.YCbCrSubsampleRatio411: {4, 1}, image.YCbCrSubsampleRatio410: {4, 2},
	} {
		for range 30 {
			m := image.NewYCbCr(image.Rect(0, 0, side(rng), side(rng)), ratio)
			for _, plane := range [][]uint8{m.Y, m.Cb, m.Cr} {
				copy(plane, randomRGB(rng, len(plane), 1).Pix)
			}
			got := fromYCbCr(m)
			width, height := (got.Width+steps[0]-1)/steps[0], (got.Height+steps[1]-1)/steps[1]
			for i := range got.Width * got.Height {
				x, y := i%got.Width, i/got.Width
				cb := plainChroma(m.Cb, m.CStride, width, height, steps[0], steps[1], x, y) - 128
				cr := plainChroma(m.Cr, m.CStride, width, height, steps[0], steps[1], x, y) - 128
				luma := int(m.Y[y*m.YStride+x])
				const half = 1 << 15
				want := []uint8{
					clip8(int32(luma + (91881*cr+half)>>16)),
					clip8(int32(luma + (-22554*cb-46802*cr+half)>>16)),
					clip8(int32(luma + (116130*cb+half)>>16)),
				}
				if !slices.Equal(got.Pix[i*3:i*3+3], want) {
					t.Fatalf("%v, %d×%d: x %d, y %d: got %v, want %v",
						ratio, got.Width, got.Height, x, y, got.Pix[i*3:i*3+3], want)
				}
			}
		}
	}
}

func TestFloatsAsPlainLoops(t *testing.T) {
	m := NewRGB(87, 3) // no multiple of a vector
	for i := range m.Pix {
		m.Pix[i] = uint8(i)
	}
	before := []float32{7, 8}
	signed, unsigned := AppendPixels(before, m), AppendCondition(before[:1:1], m)
	if !slices.Equal(signed[:2], before) || len(signed) != 2+len(m.Pix) || unsigned[0] != 7 ||
		len(unsigned) != 1+len(m.Pix) {
		t.Fatal("what was there before is not kept")
	}
	for i, v := range m.Pix {
		if want := (float32(v)/255 - 0.5) / 0.5; signed[2+i] != want {
			t.Fatalf("%d: got %v, want %v", v, signed[2+i], want)
		}
		if want := float32(v) / 255; unsigned[1+i] != want {
			t.Fatalf("%d: got %v, want %v", v, unsigned[1+i], want)
		}
	}
}

// The loops in C, compiled with the address and undefined-behaviour sanitizers, stay within what they are given.
func TestVectorsUnderSanitizers(t *testing.T) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler is here")
	}
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.c")
	if err := os.WriteFile(empty, []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sanitizers := []string{"-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"}
	if out, err := exec.Command(compiler, append(sanitizers, "-o", filepath.Join(dir, "empty"), empty)...).
		CombinedOutput(); err != nil {
		t.Skipf("the C compiler has no sanitizers: %s", out)
	}
	sources, err := filepath.Glob("*.c")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "sanitize")
	args := append(sanitizers, "-Wall", "-Wextra", "-Werror", "-o", program, "testdata/sanitize.c")
	if out, err := exec.Command(compiler, append(args, sources...)...).CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	if out, err := exec.Command(program).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
