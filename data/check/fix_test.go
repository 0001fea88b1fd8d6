package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/color"
	"image/jpeg"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/data/circles"
)

// A cleaned copy has none of the rows that were found and all others, to the byte; what it still has is said.
func TestFix(t *testing.T) {
	const rows, held = 40, 4
	d, h := newDataset(t, rows), newDataset(t, held)
	for i := range held {
		c := circles.Set{Size: 64, Seed: 99, Palette: "basic"}.Example(i)
		h.write(fmt.Sprintf("%03d.png", i), c.Image())
		h.write(fmt.Sprintf("c%03d.png", i), c.Condition())
	}
	copyOf := func(to *dataset, name, from string) {
		_, m := d.read(from)
		var b bytes.Buffer
		if err := jpeg.Encode(&b, m.NRGBA(), &jpeg.Options{Quality: 97}); err != nil {
			t.Fatal(err)
		}
		to.put(name, b.Bytes())
	}
	d.put("001.png", []byte("no image"))
	raw, _ := d.read("002.png")
	d.put("002.png", raw[:len(raw)/2])
	d.write("c003.png", flat(64, 64, color.Black))
	d.write("c004.png", flat(64, 40, color.White))
	d.write("005.png", flat(64, 64, color.NRGBA{R: 200, G: 100, A: 255}))
	copyOf(d, "006.png", "000.png")
	d.rows[6]["conditioning_image"] = "c000.png"
	d.rows[7] = maps.Clone(d.rows[0])
	d.rows[8]["text"] = " "
	d.rows[9]["text"] = strings.Repeat("red circle, ", 40)
	d.write("010.png", flat(20, 20, color.NRGBA{R: 10, G: 100, A: 255}))
	copyOf(h, "001.png", "011.png")
	h.check(nil)
	r := d.check(func(o *Options) { o.ValidationData = []string{h.dir} })
	left := r.Unmended()
	if len(left) != 1 || left[0].Kind != "long_captions" || Worst(left) != Warning {
		t.Errorf("a cleaned copy still has %v", left)
	}
	out := filepath.Join(t.TempDir(), "clean")
	if _, err := r.Fix(out).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var lines []string
	names, err := os.ReadFile(filepath.Join(out, "build", "left_out.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(names)) {
		var row struct {
			Row    int
			Reason string
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(row.Row, " ", row.Reason))
	}
	const want = "1 unreadable; 2 unreadable; 3 blank condition; 4 shapes differ; 5 blank; 6 near duplicate; " +
		"7 duplicate; 8 caption; 10 too small; 11 duplicate of validation"
	if got := strings.Join(lines, "; "); got != want {
		t.Errorf("left out:\n%s\nwant:\n%s", got, want)
	}
	again, err := Run(t.Context(), []string{out}, options(t, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(again); len(got) != 1 || got["long_captions"] != 1 {
		t.Errorf("the copy has %v:\n%s", got, again.Summary())
	}
	if s := again.Splits; len(s) != 2 || s[0].Rows != rows-10 || s[1].Rows != held {
		t.Errorf("splits of the copy: %+v", s)
	}
}
