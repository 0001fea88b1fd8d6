package data

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/controlnet/condition"
	"limner/data/imaging"
)

// photographs writes a folder of n images of noise in blocks, of several shapes, with captions and nothing else.
func photographs(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		m := imaging.NewRGB(40+3*i, 36+i)
		for y := range m.Height {
			for x := range m.Width {
				block := uint64(x/7)<<8 | uint64(y/5)
				red, green := byte(block*2654435761>>3), byte(block*40503)
				copy(m.Pix[3*(y*m.Width+x):], []byte{red, green, byte(rng.IntN(60))})
			}
		}
		if err := imaging.WritePNG(filepath.Join(dir, fmt.Sprintf("%02d.png", i)), m); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, fmt.Sprintf("%02d.txt", i)), fmt.Sprintf("blocks %d", i))
	}
	return dir
}

// built writes the rows of a folder at a resolution with the condition of each in a column, as preparing it would.
func built(t *testing.T, dir, text string, o Options) string {
	t.Helper()
	o.NeedConditioning = false
	d := openTest(t, dir, o)
	taken, err := condition.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var rows []pairRow
	for i := range d.Len() {
		r, err := d.Row(i)
		if err != nil {
			t.Fatal(err)
		}
		fitted, err := d.Fit(r.Image)
		if err != nil {
			t.Fatal(err)
		}
		c, err := taken.Draw(o.Seed, int64(i), 0).Apply(fitted)
		if err != nil {
			t.Fatal(err)
		}
		row := pairRow{Text: r.Caption}
		for to, m := range map[*cell]*imaging.RGB{&row.Image: fitted, &row.ConditioningImage: c} {
			if to.Bytes, err = imaging.EncodePNG(m); err != nil {
				t.Fatal(err)
			}
		}
		rows = append(rows, row)
	}
	return writeRows(t, rows)
}

// seen is what a batch has of a row.
type seen struct {
	pixels, condition []float32
	flipped           bool
}

func seenByRow(batches []*Batch) map[int64]seen {
	all := map[int64]seen{}
	for _, b := range batches {
		size := len(b.Pixels) / len(b.Rows)
		for i, row := range b.Rows {
			from, to := i*size, (i+1)*size
			all[row] = seen{b.Pixels[from:to], b.Conditioning[from:to], b.Views[i].Flipped}
		}
	}
	return all
}

// A condition that is taken while training has the pixels of one that was prepared with the same seed, flipped or not.
func TestConditionsOnTheFly(t *testing.T) {
	const rows, side = 6, 32
	dir := photographs(t, rows)
	for _, text := range []string{
		"canny", "canny(low=rand(20, 90), high=rand(90, 400))", "scribble", "grid(size=rand(3, 9))", "luminance",
	} {
		o := testOptions()
		o.Resolution, o.BatchSize, o.Condition, o.RandomFlip = side, 2, text, true
		fly := seenByRow(take(t, openTest(t, dir, o), 0, rows/o.BatchSize))
		path := built(t, dir, text, o)
		o.Condition = ""
		brightest := float32(0)
		for row, want := range seenByRow(take(t, openTest(t, path, o), 0, rows/o.BatchSize)) {
			got := fly[row]
			if got.flipped != want.flipped || !slices.Equal(got.pixels, want.pixels) {
				t.Fatalf("%s: row %d is seen otherwise", text, row)
			}
			if !slices.Equal(got.condition, want.condition) {
				t.Errorf("%s: row %d (flipped: %v) has another condition", text, row, got.flipped)
			}
			brightest = max(brightest, slices.Max(got.condition))
		}
		if brightest == 0 {
			t.Errorf("%s: all conditions are black", text)
		}
	}
}

// Random parameters are drawn anew in every epoch, and a resumed run draws the same.
func TestRandomConditionsByEpoch(t *testing.T) {
	o := testOptions()
	o.Resolution, o.BatchSize, o.Condition = 32, 1, "grid(size=rand(2, 32))"
	dir := photographs(t, 1)
	all := take(t, openTest(t, dir, o), 0, 8)
	sameBatches(t, "from epoch 3 on", all[3:], take(t, openTest(t, dir, o), 3, 5))
	drawn := map[string]bool{}
	for _, b := range all {
		drawn[fmt.Sprint(b.Conditioning)] = true
	}
	if len(drawn) < 4 {
		t.Errorf("%d conditions in 8 epochs", len(drawn))
	}
}

func TestConditionOptions(t *testing.T) {
	o := testOptions()
	o.Condition = "cany"
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "is it canny?") {
		t.Errorf("got %v", err)
	}
	o.NeedConditioning = false // the settings of other trainings have none
	if err := o.Validate(); err != nil {
		t.Errorf("got %v", err)
	}
}

// Masks are drawn from the seed: hidden pixels are -1, the others those of the image, flipped or not.
func TestInpaintingConditions(t *testing.T) {
	o := testOptions()
	o.Resolution, o.BatchSize, o.Condition, o.RandomFlip = 32, 3, "inpaint(share=0.3)", true
	dir := photographs(t, 3)
	batches := take(t, openTest(t, dir, o), 0, 6)
	sameBatches(t, "again", batches, take(t, openTest(t, dir, o), 0, 6))
	s, err := condition.Parse(o.Condition)
	if err != nil {
		t.Fatal(err)
	}
	side, flips := o.Resolution, 0
	for _, b := range batches {
		for i, row := range b.Rows {
			hidden := s.Draw(o.Seed, row, b.Epoch).Hidden(side, side)
			for p := range side * side {
				at := 3 * (i*side*side + p)
				from := p
				if b.Views[i].Flipped {
					from = p - p%side + side - 1 - p%side
					flips++
				}
				want := (b.Pixels[at] + 1) / 2
				if hidden[from] {
					want = -1
				}
				if got := b.Conditioning[at]; got < want-1e-6 || got > want+1e-6 {
					t.Fatalf("row %d, pixel %d: %g, want %g", row, p, got, want)
				}
			}
		}
	}
	if flips == 0 {
		t.Error("nothing was flipped")
	}
}

// Poses are drawn where the joints are in what a batch has of the image.
func TestPosesOfRows(t *testing.T) {
	keypoints := func(canvas string) string {
		joints := strings.Repeat("0,0,0,", 17)
		return `{"people": [{"pose_keypoints_2d": [` + joints + `24, 8, 1]}]` + canvas + `}` // a joint alone
	}
	dir := slopes(t, 4, 48, 32)
	var lines strings.Builder
	for i, field := range []string{
		keypoints(""), fmt.Sprintf("%q", keypoints(`, "canvas_width": 48, "canvas_height": 32`)),
		keypoints(`, "canvas_width": 48, "canvas_height": 48`), "null",
	} {
		fmt.Fprintf(&lines, `{"file_name": "%02d.png", "text": "pose", "poses": %s}`+"\n", i, field)
	}
	writeFile(t, filepath.Join(dir, metadataName), lines.String())
	o := testOptions()
	o.Resolution, o.BatchSize, o.Condition, o.KeypointsColumn = 16, 2, "pose", "poses"
	d := openTest(t, dir, o)
	for _, b := range take(t, d, 0, 4) {
		for i, row := range b.Rows {
			x, y := 24/2-4, 8/2 // resized to 24×16, cropped at 4
			at := 3 * (i*16*16 + y*16 + x)
			if got := b.Conditioning[at : at+3]; !slices.Equal(got, []float32{1, 0, float32(85) / 255}) {
				t.Errorf("row %d has the colour %v at its joint", row, got)
			}
			if b.Conditioning[3*i*16*16] != 0 {
				t.Errorf("row %d is not black at its corner", row)
			}
		}
	}
	bad := fmt.Sprint(d.Report().Bad)
	for _, want := range []string{"poses: the canvas: it is 48×48, the image 48×32", "no poses, from which"} {
		if !strings.Contains(bad, want) {
			t.Errorf("bad rows %s, want %q", bad, want)
		}
	}
	o.RandomFlip = true
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "left and right have colours") {
		t.Errorf("got %v", err)
	}
	o.ForceFlip = true
	if err := o.Validate(); err != nil {
		t.Errorf("forced: %v", err)
	}
}

// Depth of 16 bits keeps them all in a batch, and values of a narrow range are named.
func TestConditionsOf16Bits(t *testing.T) {
	dir := t.TempDir()
	const side = 16
	for i, scale := range []int{200, 1} {
		gray := image.NewGray16(image.Rect(0, 0, side, side))
		for p := range side * side {
			gray.SetGray16(p%side, p/side, color.Gray16{Y: uint16(p * scale)})
		}
		var b bytes.Buffer
		if err := png.Encode(&b, gray); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, fmt.Sprintf("depth%d.png", i)), b.String())
	}
	picture, err := imaging.EncodePNG(imaging.NewRGB(side, side))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "image.png"), string(picture))
	writeFile(t, filepath.Join(dir, metadataName),
		`{"file_name": "image.png", "conditioning_image": "depth0.png", "text": "a"}`+"\n"+
			`{"file_name": "image.png", "conditioning_image": "depth1.png", "text": "b"}`+"\n")
	var log bytes.Buffer
	o := testOptions()
	o.Resolution, o.BatchSize, o.RandomFlip, o.Log = side, 2, true, &log
	for _, b := range take(t, openTest(t, dir, o), 0, 4) {
		for i, row := range b.Rows {
			for p := range side * side {
				x := p % side
				if b.Views[i].Flipped {
					x = side - 1 - x
				}
				scale := []int{200, 1}[row]
				want := float32((p/side*side+x)*scale) / 65535
				at := 3 * (i*side*side + p)
				if got := b.Conditioning[at : at+3]; !slices.Equal(got, []float32{want, want, want}) {
					t.Fatalf("row %d, pixel %d: %v, want %g", row, p, got, want)
				}
			}
		}
	}
	if text := log.String(); !strings.Contains(text, "nearly black") || strings.Contains(text, "high byte") {
		t.Errorf("the log says %s", text)
	}
}
