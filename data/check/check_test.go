package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/data/circles"
	"limner/data/imaging"
	"limner/models/clip"
)

// dataset is a folder of images in the making.
type dataset struct {
	t    *testing.T
	dir  string
	rows []map[string]string
}

// newDataset writes circles with their outlines and captions.
func newDataset(t *testing.T, count int) *dataset {
	t.Helper()
	d := &dataset{t: t, dir: t.TempDir()}
	set := circles.Default()
	set.Seed = 3
	for i := range count {
		c := set.Example(i)
		d.write(fmt.Sprintf("%03d.png", i), c.Image())
		d.write(fmt.Sprintf("c%03d.png", i), c.Condition())
		d.rows = append(d.rows, map[string]string{
			"file_name":          fmt.Sprintf("%03d.png", i),
			"conditioning_image": fmt.Sprintf("c%03d.png", i),
			"text":               c.Caption(),
			"licence":            "CC0",
		})
	}
	return d
}

// write writes a picture as PNG.
func (d *dataset) write(name string, m image.Image) {
	d.t.Helper()
	if rgb, ok := m.(*imaging.RGB); ok {
		m = rgb.NRGBA()
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		d.t.Fatal(err)
	}
	d.put(name, b.Bytes())
}

func (d *dataset) put(name string, raw []byte) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), raw, 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// read reads a picture.
func (d *dataset) read(name string) (raw []byte, m *imaging.RGB) {
	d.t.Helper()
	raw, m, err := imaging.Decoding{}.DecodeFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	return raw, m
}

// check writes the metadata and checks the dataset.
func (d *dataset) check(change func(*Options)) *Report {
	d.t.Helper()
	var lines bytes.Buffer
	for _, row := range d.rows {
		if err := json.NewEncoder(&lines).Encode(row); err != nil {
			d.t.Fatal(err)
		}
	}
	d.put("metadata.jsonl", lines.Bytes())
	r, err := Run(d.t.Context(), []string{d.dir}, options(d.t, change), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

func options(t *testing.T, change func(*Options)) Options {
	t.Helper()
	tokenizer, err := clip.Standard(clip.PadEnd)
	if err != nil {
		t.Fatal(err)
	}
	o := Default()
	o.Tokenizers, o.Tokenizer, o.Workers = []Tokenizer{tokenizer}, "CLIP's tokenizer", 2
	if change != nil {
		change(&o)
	}
	return o
}

// kinds are those of a report's findings with their numbers of rows.
func kinds(r *Report) map[string]int {
	all := map[string]int{}
	for _, f := range r.Findings {
		all[f.Kind] = f.Count
	}
	return all
}

func flat(width, height int, c color.Color) image.Image {
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			m.Set(x, y, c)
		}
	}
	return m
}

// Each fault that is planted is found, in the row where it is, and nothing else is.
func TestFindings(t *testing.T) {
	const rows, at = 24, 7
	for name, c := range map[string]struct {
		plant  func(d *dataset, row map[string]string)
		change func(*Options)
		want   map[string]int
		worst  Severity
	}{
		"nothing": {plant: func(*dataset, map[string]string) {}},
		"unreadable": {
			plant: func(d *dataset, row map[string]string) { d.put(row["file_name"], []byte("no image")) },
			want:  map[string]int{"unreadable": 1}, worst: Error,
		},
		"truncated": {
			plant: func(d *dataset, row map[string]string) {
				raw, _ := d.read(row["file_name"])
				d.put(row["file_name"], raw[:len(raw)/2])
			},
			want: map[string]int{"truncated": 1}, worst: Error,
		},
		"another shape": {
			plant: func(d *dataset, row map[string]string) {
				_, m := d.read(row["conditioning_image"])
				m, err := imaging.Resize(m, 64, 40, imaging.Bilinear)
				if err != nil {
					d.t.Fatal(err)
				}
				d.write(row["conditioning_image"], m)
			},
			want: map[string]int{"other_shape": 1}, worst: Error,
		},
		"tiny": {
			plant: func(d *dataset, row map[string]string) {
				for _, name := range []string{row["file_name"], row["conditioning_image"]} {
					_, m := d.read(name)
					m, err := imaging.Resize(m, 32, 32, imaging.Bilinear)
					if err != nil {
						d.t.Fatal(err)
					}
					d.write(name, m)
				}
			},
			want: map[string]int{"tiny": 1}, worst: Warning,
		},
		"one colour": {
			plant: func(d *dataset, row map[string]string) {
				d.write(row["file_name"], flat(64, 64, color.NRGBA{R: 200, G: 100, A: 255}))
			},
			want: map[string]int{"blank_images": 1}, worst: Warning,
		},
		"blank condition": {
			plant: func(d *dataset, row map[string]string) {
				d.write(row["conditioning_image"], flat(64, 64, color.Black))
			},
			want: map[string]int{"blank_conditions": 1}, worst: Warning,
		},
		"near-constant condition": {
			plant: func(d *dataset, row map[string]string) {
				m := flat(64, 64, color.Black).(*image.NRGBA)
				m.Set(10, 10, color.White)
				m.Set(11, 10, color.White)
				d.write(row["conditioning_image"], m)
			},
			want: map[string]int{"near_blank_conditions": 1, "misaligned_conditions": 1}, worst: Warning,
		},
		"condition of another row": {
			plant: func(d *dataset, row map[string]string) { row["conditioning_image"] = "c016.png" },
			want:  map[string]int{"misaligned_conditions": 1}, worst: Warning,
		},
		"mirrored condition": {
			plant: func(d *dataset, row map[string]string) {
				_, m := d.read(row["conditioning_image"])
				d.write(row["conditioning_image"], imaging.Mirror(m))
			},
			want: map[string]int{"misaligned_conditions": 1, "turned_conditions": 1}, worst: Warning,
		},
		"the same image": {
			plant: func(d *dataset, row map[string]string) {
				row["file_name"], row["conditioning_image"] = "003.png", "c003.png"
			},
			want: map[string]int{"duplicates": 1}, worst: Warning,
		},
		"the same image, encoded again": {
			plant: func(d *dataset, row map[string]string) {
				_, m := d.read("003.png")
				var b bytes.Buffer
				if err := jpeg.Encode(&b, m.NRGBA(), &jpeg.Options{Quality: 97}); err != nil {
					d.t.Fatal(err)
				}
				row["file_name"], row["conditioning_image"] = "again.jpg", "c003.png"
				d.put("again.jpg", b.Bytes())
			},
			want: map[string]int{"near_duplicates": 1}, worst: Warning,
		},
		"no caption": {
			plant: func(d *dataset, row map[string]string) { row["text"] = " " },
			want:  map[string]int{"empty_captions": 1}, worst: Warning,
		},
		"long caption": {
			plant: func(d *dataset, row map[string]string) { row["text"] = strings.Repeat("red circle, ", 40) },
			want:  map[string]int{"long_captions": 1}, worst: Warning,
		},
		"one caption": {
			plant: func(d *dataset, _ map[string]string) {
				for _, row := range d.rows {
					row["text"] = "a circle"
				}
			},
			want: map[string]int{"repeated_captions": rows}, worst: Note,
		},
		"16-bit depth in millimetres": {
			plant: func(d *dataset, row map[string]string) {
				_, m := d.read(row["conditioning_image"])
				gray := image.NewGray16(m.Bounds())
				for y := range m.Height {
					for x := range m.Width {
						gray.SetGray16(x, y, color.Gray16{Y: 1000 + 30*uint16(m.Pix[(y*m.Width+x)*3])})
					}
				}
				d.write(row["conditioning_image"], gray)
			},
			want: map[string]int{"16_bit": 1, "narrow_16_bit": 1}, worst: Warning,
		},
		"alpha": {
			plant: func(d *dataset, row map[string]string) {
				_, m := d.read(row["file_name"])
				n := m.NRGBA()
				n.Pix[3] = 100
				d.write(row["file_name"], n)
			},
			want: map[string]int{"alpha": 1}, worst: Note,
		},
		"black mask": {
			plant: func(d *dataset, row map[string]string) {
				d.write("white.png", flat(64, 64, color.White))
				d.write("black.png", flat(64, 64, color.Black))
				for _, row := range d.rows {
					row["mask"] = "white.png"
				}
				row["mask"] = "black.png"
			},
			change: func(o *Options) { o.MaskColumn = "mask" },
			want:   map[string]int{"black_mask": 1}, worst: Error,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDataset(t, rows)
			c.plant(d, d.rows[at])
			r := d.check(c.change)
			want := maps.Clone(c.want)
			if got := kinds(r); !maps.Equal(got, want) {
				t.Fatalf("got %v, want %v:\n%s", got, want, r.Summary())
			}
			if Worst(r.Findings) != c.worst {
				t.Errorf("worst: got %q, want %q", Worst(r.Findings), c.worst)
			}
			for _, f := range r.Findings {
				name := fmt.Sprintf("row %d (%s)", at, d.rows[at]["file_name"])
				if f.Count == 1 && (len(f.Rows) != 1 || !strings.Contains(f.Rows[0].Row, name)) {
					t.Errorf("%s: got %v, want %s", f.Kind, f.Rows, name)
				}
				if f.Title == "" || f.Advice == "" {
					t.Errorf("%s says %q, and to do %q", f.Kind, f.Title, f.Advice)
				}
			}
		})
	}
}

// Held-out rows whose images are trained on are found, encoded again too.
func TestLeaks(t *testing.T) {
	d, held := newDataset(t, 8), newDataset(t, 6)
	for i := range 6 {
		name := fmt.Sprintf("%03d.png", i)
		held.write(name, circles.Set{Size: 64, Seed: 99, Palette: "basic"}.Example(i).Image())
	}
	_, m := d.read("002.png")
	held.write("001.png", m)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m.NRGBA(), &jpeg.Options{Quality: 97}); err != nil {
		t.Fatal(err)
	}
	_, other := d.read("005.png")
	b.Reset()
	if err := jpeg.Encode(&b, other.NRGBA(), &jpeg.Options{Quality: 97}); err != nil {
		t.Fatal(err)
	}
	held.put("003.png", b.Bytes())
	held.check(nil)
	r := d.check(func(o *Options) { o.ValidationData = []string{held.dir} })
	got := kinds(r)
	if got["leaks"] != 1 || got["near_leaks"] != 1 || Worst(r.Findings) != Error || len(r.Splits) != 2 {
		t.Errorf("got %v:\n%s", got, r.Summary())
	}
	if rows := r.Findings[0].Rows; len(rows) != 1 || !strings.Contains(rows[0].Detail, "(002.png)") {
		t.Errorf("got %v, want the row that is trained on", rows)
	}
}

// Pairs that are off by one are found, since each condition fits the image of the row beside it.
func TestShiftedConditions(t *testing.T) {
	for _, by := range []int{1, -1} {
		d := newDataset(t, 24)
		for i, row := range d.rows {
			row["conditioning_image"] = fmt.Sprintf("c%03d.png", (i+by+24)%24)
		}
		r := d.check(nil)
		if got := kinds(r); got["shifted_conditions"] != 24 || Worst(r.Findings) != Error {
			t.Errorf("shifted by %d: got %v:\n%s", by, got, r.Summary())
		}
	}
}

// A dataset without captions and conditions is checked all the same.
func TestImagesAlone(t *testing.T) {
	d := newDataset(t, 4)
	for i := range d.rows {
		if err := os.Remove(filepath.Join(d.dir, fmt.Sprintf("c%03d.png", i))); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Run(t.Context(), []string{d.dir}, options(t, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"no_captions": 4, "no_conditions": 0}
	if got := kinds(r); !maps.Equal(got, want) || r.Splits[0].Rows != 4 {
		t.Errorf("got %v:\n%s", got, r.Summary())
	}
	if _, err := Run(t.Context(), []string{t.TempDir()}, options(t, nil), nil); err == nil {
		t.Error("an empty folder is checked")
	}
}

// Texts and names of files steer neither a terminal nor a page.
func TestHostileTexts(t *testing.T) {
	d := newDataset(t, 20)
	evil := "\x1b[2J<script>alert(1)</script>\"><img src=x onerror=alert(2)>\u202e\nforged: line"
	name := "<img src=x onerror=alert(3)>\x1b[31m.png"
	for _, row := range d.rows {
		row["text"], row["licence"] = evil, evil
	}
	d.write(name, flat(64, 64, color.NRGBA{R: 9, A: 255}))
	d.rows[3]["file_name"] = name
	r := d.check(nil)
	r.Dataset = evil
	path := filepath.Join(t.TempDir(), "page.html")
	if err := r.WritePage(path); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(page); strings.Contains(text, "<script>alert") || strings.Contains(text, "<img src=x") {
		t.Error("the page holds what the texts say")
	}
	if got := kinds(r); got["repeated_captions"] != 20 || got["blank_images"] != 1 {
		t.Errorf("got %v", got)
	}
	r.Dataset = "set"
	if text := r.Summary(); strings.ContainsAny(text, "\x1b\u202e") || strings.Contains(text, "\nforged") {
		t.Errorf("the summary steers a terminal: %q", text)
	}
}

// The report is the same with any number of workers, and the page holds a picture of each row that is shown.
func TestReportsAreReproducible(t *testing.T) {
	d := newDataset(t, 40)
	d.write("c007.png", flat(64, 64, color.Black))
	d.rows[20] = d.rows[4]
	var reports, pages []string
	for _, workers := range []int{1, 7} {
		r := d.check(func(o *Options) { o.Workers = workers })
		var b bytes.Buffer
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		var back Report
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Findings) != 2 {
			t.Errorf("got %d findings in JSON: %v", len(back.Findings), err)
		}
		back.Run.HostMemory = 0
		path := filepath.Join(t.TempDir(), "page.html")
		r.Run.HostMemory = 0
		if err := r.WritePage(path); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		reports, pages = append(reports, string(raw)), append(pages, string(page))
	}
	if reports[0] != reports[1] || pages[0] != pages[1] {
		t.Error("the reports differ with the number of workers")
	}
	if n := strings.Count(pages[0], "<img "); n < 2*(shownPairs+2) {
		t.Errorf("the page holds %d pictures", n)
	}
}
