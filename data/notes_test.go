package data

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"path/filepath"
	"strings"
	"testing"

	"limner/data/imaging"
)

// writeMasked writes a folder of images with masks, each of one colour.
func writeMasked(t *testing.T, images, masks []color.Color) string {
	t.Helper()
	dir := t.TempDir()
	var lines strings.Builder
	for i := range images {
		for name, c := range map[string]color.Color{"image": images[i], "mask": masks[i]} {
			m := image.NewNRGBA(image.Rect(0, 0, 4, 4))
			for p := range 16 {
				m.Set(p%4, p/4, c)
			}
			if err := imaging.WritePNG(filepath.Join(dir, fmt.Sprintf("%s-%d.png", name, i)), m); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(&lines, `{"file_name": "image-%d.png", "mask": "mask-%d.png", "text": ""}`+"\n", i, i)
	}
	writeFile(t, filepath.Join(dir, metadataName), lines.String())
	return dir
}

func TestBackgroundStandsBehindRows(t *testing.T) {
	glass, mask := color.NRGBA{R: 10, G: 20, B: 30}, color.White
	dir := writeMasked(t, []color.Color{glass, glass, glass}, []color.Color{mask, mask, mask})
	for background, want := range map[string][3]uint8{"": {10, 20, 30}, "#ff8000": {255, 128, 0}} {
		var log bytes.Buffer
		o := testOptions()
		o.NeedConditioning, o.Background, o.Log = false, background, &log
		d := openTest(t, dir, o)
		for i := range d.Len() {
			r, err := d.Row(i)
			if err != nil {
				t.Fatal(err)
			}
			if got := [3]uint8(r.Image.Pix[:3]); got != want {
				t.Errorf("background %q: row %d is %v, want %v", background, i, got, want)
			}
		}
		said := strings.Count(log.String(), string(imaging.NoteAlpha))
		if wanted := map[string]int{"": 1}[background]; said != wanted {
			t.Errorf("background %q: %d notes of alpha, want %d:\n%s", background, said, wanted, log.String())
		}
		if background == "" && !strings.Contains(log.String(), " row 0: image: the picture is not opaque") {
			t.Errorf("the row is not named:\n%s", log.String())
		}
	}
	o := testOptions()
	o.Background = "whitish"
	if _, err := Open([]string{dir}, o); err == nil || !strings.Contains(err.Error(), `background: colour "whitish"`) {
		t.Errorf("error %v", err)
	}
}

// Rows without weight would train nothing; a random crop may miss what a mask shows, which is no reason to refuse the
// row.
func TestBlackMasksAreRefusedByRow(t *testing.T) {
	black, nearly := color.Gray{}, color.NRGBA{R: 1, A: 255}
	for _, random := range []bool{false, true} {
		o := testOptions()
		o.NeedConditioning, o.MaskColumn, o.Resolution, o.BatchSize, o.RandomCrop = false, "mask", 4, 2, random
		images := []color.Color{color.White, color.White, color.White}
		b, err := openTest(t, writeMasked(t, images, []color.Color{black, nearly, black}), o).Batches(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if _, err := b.Next(); err == nil || !strings.Contains(err.Error(), "all 3 rows are bad, the first: ") ||
			!strings.Contains(err.Error(), " row 0: mask: all black") {
			t.Errorf("random crop %v: error %v", random, err)
		}
		d := openTest(t, writeMasked(t, images, []color.Color{black, color.White, color.Gray{Y: 1}}), o)
		for _, batch := range take(t, d, 0, 3) {
			for i, row := range batch.Rows {
				if row == 0 {
					t.Errorf("random crop %v: batch %d shows row 0 at %d", random, batch.Index, i)
				}
			}
		}
		if bad := d.Report().Bad; len(bad) != 1 || bad[0].Row != 0 {
			t.Errorf("random crop %v: bad rows %v", random, bad)
		}
	}
}
