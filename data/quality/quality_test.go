package quality

import (
	"bytes"
	"fmt"
	"image/jpeg"
	"math/bits"
	"math/rand/v2"
	"testing"

	"limner/data/circles"
	"limner/data/imaging"
	"limner/internal/golden"
)

// photograph reads one of the photographs among the goldens.
func photograph(t testing.TB, name string) *imaging.RGB {
	t.Helper()
	_, m, err := imaging.Decoding{}.DecodeFile(golden.Path(t, "images", name+".png"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func resized(t testing.TB, m *imaging.RGB, width, height int) *imaging.RGB {
	t.Helper()
	m, err := imaging.Resize(m, width, height, imaging.Bilinear)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func encoded(t testing.TB, m *imaging.RGB, quality int) *imaging.RGB {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m.NRGBA(), &jpeg.Options{Quality: quality}); err != nil {
		t.Fatal(err)
	}
	m, err := imaging.Decode(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func flat(width, height int, colour ...uint8) *imaging.RGB {
	m := imaging.NewRGB(width, height)
	for i := range m.Pix {
		m.Pix[i] = colour[i%len(colour)]
	}
	return m
}

func reduced(t testing.TB, m *imaging.RGB) *Reduced {
	t.Helper()
	r, err := Reduce(m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSharpness(t *testing.T) {
	for _, name := range []string{"astronaut", "coffee"} {
		m := photograph(t, name)
		sharp := Sharpness(m)
		soft := Sharpness(resized(t, resized(t, m, m.Width/8, m.Height/8), m.Width, m.Height))
		if sharp < 200 || soft > 50 {
			t.Errorf("%s: sharpness %.0f, and %.0f when enlarged eightfold", name, sharp, soft)
		}
	}
	// A large picture that is soft at its own size is as sharp as what it is when reduced for training.
	set := circles.Default()
	set.Size = 512
	m := set.Example(0).Image()
	sharp, large := Sharpness(m), Sharpness(resized(t, m, 1536, 1536))
	if large < sharp/3 || large > sharp*3 {
		t.Errorf("sharpness %.0f, and %.0f at three times the size", sharp, large)
	}
	for _, m := range []*imaging.RGB{flat(64, 64, 90), flat(1, 1, 90), flat(2, 700, 90), flat(700, 2, 3)} {
		if got := Sharpness(m); got != 0 {
			t.Errorf("%d×%d of one colour: sharpness %g, want 0", m.Width, m.Height, got)
		}
	}
}

func TestVariation(t *testing.T) {
	noisy := flat(64, 64, 240)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range noisy.Pix {
		noisy.Pix[i] += uint8(rng.IntN(6))
	}
	speck := flat(64, 64, 0)
	copy(speck.Pix[3*700:], []uint8{255, 255, 255, 255, 255, 255})
	set := circles.Default()
	for name, c := range map[string]struct {
		m         *imaging.RGB
		low, high float64
	}{
		"one colour":   {flat(64, 64, 10, 20, 30), 0, 0},
		"noise":        {noisy, 0, 0},
		"a speck":      {speck, 2.0 / 4096, 2.0 / 4096},
		"an outline":   {set.Example(0).Condition(), 0.01, 0.2},
		"a photograph": {photograph(t, "astronaut"), 0.8, 1},
		"nothing":      {imaging.NewRGB(0, 0), 0, 0},
	} {
		if got := Variation(c.m); got < c.low || got > c.high {
			t.Errorf("%s: variation %g, want %g to %g", name, got, c.low, c.high)
		}
	}
	if !Blank(0) || Blank(2.0/4096) || !NearBlank(2.0/4096) || NearBlank(0.01) {
		t.Error("the limits of blank pictures lie elsewhere")
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{5, 1, 2}, 2}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("median of %v: got %g, want %g", c.values, got, c.want)
		}
	}
}

// Copies that were encoded again or resized are found; other pictures, and copies that were changed, are not.
func TestPrint(t *testing.T) {
	for _, name := range []string{"astronaut", "camera", "coffee"} {
		m := photograph(t, name)
		p := reduced(t, m).Print()
		for what, copied := range map[string]*imaging.RGB{
			"the same":           m,
			"JPEG 95":            encoded(t, m, 95),
			"JPEG 40":            encoded(t, m, 40),
			"half the size":      resized(t, m, m.Width/2, m.Height/2),
			"twice the size":     resized(t, m, m.Width*2, m.Height*2),
			"small, and JPEG 60": encoded(t, resized(t, m, m.Width/3, m.Height/3), 60),
			"of another shape":   resized(t, m, 256, 256),
		} {
			o := reduced(t, copied).Print()
			if !p.Same(&o) || !o.Same(&p) {
				t.Errorf("%s, %s: not found, %d bits differ", name, what, bits.OnesCount64(p.Hash^o.Hash))
			}
		}
		for what, other := range map[string]*imaging.RGB{
			"mirrored": imaging.Mirror(m),
			"cropped":  imaging.Crop(m, m.Width/8, m.Height/8, m.Width*3/4, m.Height*3/4),
			"noise":    photograph(t, "noise"),
			"shapes":   photograph(t, "shapes"),
			"black":    flat(m.Width, m.Height, 0),
		} {
			if o := reduced(t, other).Print(); p.Same(&o) {
				t.Errorf("%s, %s: taken for the same", name, what)
			}
		}
	}
}

// Discs of the same colours in other places are other pictures, and one colour is not another of the same luma.
func TestPrintTellsFlatPicturesApart(t *testing.T) {
	red, green := reduced(t, flat(64, 64, 200, 0, 0)).Print(), reduced(t, flat(64, 64, 0, 102, 0)).Print()
	if red.Same(&green) {
		t.Error("red is taken for green")
	}
	set, index := circles.Default(), Index{}
	for i := range 1000 {
		p := reduced(t, set.Example(i).Image()).Print()
		if m, found := index.Find(&p); found {
			t.Errorf("circle %d is taken for %d", i, m.Row)
		}
		index.Add(i, &p)
	}
	for i := range 1000 {
		p := reduced(t, encoded(t, set.Example(i).Image(), 96)).Print()
		if m, found := index.Find(&p); !found || m.Row != i || m.Exact {
			t.Errorf("circle %d as JPEG: got %v, %v", i, m, found)
		}
	}
}

// The index finds what comparing with every print finds.
func TestIndex(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var index Index
	var all []Print
	for i := range 3000 {
		p := Print{Hash: rng.Uint64()}
		if i%2 == 1 { // near one that is there
			p.Hash = all[rng.IntN(len(all))].Hash
			for range rng.IntN(12) {
				p.Hash ^= 1 << rng.IntN(64)
			}
		}
		p.Sum[0], p.Sum[1] = byte(i), byte(i>>8)
		if i%500 == 499 {
			p = all[i/2]
		}
		want, nearest := Match{Row: -1}, hashDistance+1
		for k := range all {
			if all[k].Sum == p.Sum {
				want = Match{Row: 10 * k, Exact: true}
				break
			}
			if d := bits.OnesCount64(all[k].Hash ^ p.Hash); d < nearest {
				nearest, want.Row = d, 10*k
			}
		}
		got, found := index.Find(&p)
		if found != (want.Row >= 0) || found && got != want {
			t.Fatalf("print %d: got %v, %v, want %v", i, got, found, want)
		}
		index.Add(10*i, &p)
		all = append(all, p)
	}
}

func TestEdges(t *testing.T) {
	set := circles.Default()
	edges := func(m *imaging.RGB) *Edges { return reduced(t, m).Edges() }
	for i := range 50 {
		c := set.Example(i)
		image, condition := edges(c.Image()), edges(c.Condition())
		other := edges(set.Example(i + 1).Condition())
		if own := image.Correlation(condition); own < 0.6 || own < image.Correlation(other)+0.2 {
			t.Errorf("circle %d: correlation %.2f with its outline, %.2f with another",
				i, own, image.Correlation(other))
		}
	}
	none := edges(flat(30, 40, 1, 2, 3))
	if !none.None() || none.Correlation(none) != 0 {
		t.Errorf("a picture of one colour has edges, or they correlate: %g", none.Correlation(none))
	}
	m := photograph(t, "coffee")
	e := edges(m)
	if self := e.Correlation(e); self < 0.999 || self > 1.001 {
		t.Errorf("correlation with itself: %g", self)
	}
	for turn, turned := range map[Turn]*imaging.RGB{
		0:               m,
		Mirrored:        imaging.Mirror(m),
		HalfTurn:        turnedRight(turnedRight(m)),
		UpsideDown:      imaging.Mirror(turnedRight(turnedRight(m))),
		QuarterTurn:     turnedRight(m),
		QuarterTurnBack: turnedRight(turnedRight(turnedRight(m))),
	} {
		// What was turned fits when it is turned back.
		back := map[Turn]Turn{QuarterTurn: QuarterTurnBack, QuarterTurnBack: QuarterTurn}[turn]
		if back == 0 {
			back = turn
		}
		got, correlation := e.BestTurn(edges(turned))
		if got != back || correlation < 0.9 {
			t.Errorf("%v: fits best when %v, correlation %.2f", turn, got, correlation)
		}
	}
}

// turnedRight is a picture turned clockwise by 90°.
func turnedRight(m *imaging.RGB) *imaging.RGB {
	out := imaging.NewRGB(m.Height, m.Width)
	for y := range m.Height {
		for x := range m.Width {
			copy(out.Pix[(x*out.Width+m.Height-1-y)*3:], m.Pix[(y*m.Width+x)*3:][:3])
		}
	}
	return out
}

// What is measured of any picture is finite, whatever its shape.
func FuzzMeasures(f *testing.F) {
	f.Add(uint8(3), uint8(200), []byte{1, 2, 3})
	f.Add(uint8(0), uint8(0), []byte{})
	f.Fuzz(func(t *testing.T, width, height uint8, pixels []byte) {
		m := imaging.NewRGB(int(width), int(height))
		copy(m.Pix, pixels)
		if v := Variation(m); !(v >= 0 && v <= 1) {
			t.Errorf("variation %g", v)
		}
		if v := Sharpness(m); !(v >= 0 && v <= 16*255*255) {
			t.Errorf("sharpness %g", v)
		}
		r, err := Reduce(m)
		if (err != nil) != (width == 0 || height == 0) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		p, e := r.Print(), r.Edges()
		if !p.Same(&p) {
			t.Error("a picture is not the same as itself")
		}
		if c := e.Correlation(e); !e.None() && !(c > 0.99 && c < 1.01) {
			t.Errorf("correlation with itself %g", c)
		}
	})
}

func BenchmarkMeasures(b *testing.B) {
	m := photograph(b, "coffee")
	for name, f := range map[string]func(){
		"reduce":    func() { reduced(b, m) },
		"print":     func() { reduced(b, m).Print() },
		"edges":     func() { reduced(b, m).Edges() },
		"sharpness": func() { Sharpness(m) },
		"variation": func() { Variation(m) },
	} {
		b.Run(fmt.Sprintf("%s %d×%d", name, m.Width, m.Height), func(b *testing.B) {
			for range b.N {
				f()
			}
		})
	}
}

func BenchmarkIndex(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{100_000, 1_000_000} {
		var index Index
		for i := range n {
			p := Print{Hash: rng.Uint64()}
			p.Sum[0], p.Sum[1], p.Sum[2] = byte(i), byte(i>>8), byte(i>>16)
			index.Add(i, &p)
		}
		b.Run(fmt.Sprintf("find among %d", n), func(b *testing.B) {
			for range b.N {
				index.Find(&Print{Hash: rng.Uint64(), Sum: [16]byte{15: 1}})
			}
		})
	}
}
