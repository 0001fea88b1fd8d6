package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/data/imaging"
)

// slopes writes a folder of n images whose pixel (x, y) is (x, y, image), each of them its own condition and mask.
func slopes(t *testing.T, n, width, height int) string {
	t.Helper()
	dir := t.TempDir()
	var lines strings.Builder
	for i := range n {
		m := imaging.NewRGB(width, height)
		for p := range width * height {
			copy(m.Pix[3*p:], []byte{byte(p % width), byte(p / width), byte(i)})
		}
		name := fmt.Sprintf("%02d.png", i)
		if err := imaging.WritePNG(filepath.Join(dir, name), m); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, `{"file_name": %q, "conditioning_image": %q, "mask": %q, "text": "slope %d"}`+"\n",
			name, name, name, i)
	}
	writeFile(t, filepath.Join(dir, metadataName), lines.String())
	return dir
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The image, its condition and its mask are seen alike, as View says, by the seed, the row and the epoch alone.
func TestViews(t *testing.T) {
	const width, side = 24, 16
	o := testOptions()
	o.Resolution, o.BatchSize, o.NeedConditioning, o.MaskColumn, o.RandomCrop, o.RandomFlip = side, 2,
		true, "mask", true, true
	d := openTest(t, slopes(t, 4, width, side), o)
	batches := take(t, d, 0, 12)
	sameBatches(t, "from batch 5 on", batches[5:], take(t, openTest(t, slopes(t, 4, width, side), o), 5, 7))
	flips, lefts := map[bool]int{}, map[int]int{}
	byRow := map[int64][]View{}
	for _, batch := range batches {
		for i, view := range batch.Views {
			if view.Width != width || view.Height != side || view.Top != 0 {
				t.Fatalf("got %+v of an image of %d×%d", view, width, side)
			}
			for x := range side {
				at := i*side*side + 3*side + x // in row 3
				want := view.Left + x
				if view.Flipped {
					want = width - 1 - want
				}
				red, green := batch.Conditioning[3*at]*255, batch.Conditioning[3*at+1]*255
				if got := int(red + 0.5); got != want || int(green+0.5) != 3 {
					t.Fatalf("%+v: pixel %d shows column %d, want %d", view, x, got, want)
				}
				if image := (batch.Pixels[3*at] + 1) / 2 * 255; int(image+0.5) != want {
					t.Fatalf("%+v: the image shows column %g, its condition %d", view, image, want)
				}
				gray := float32(0.299)*red + float32(0.587)*green + float32(0.114)*batch.Conditioning[3*at+2]*255
				if got := batch.Masks[at] * 255; got < gray-1 || got > gray+1 {
					t.Fatalf("%+v: the mask is %g at pixel %d, want about %g", view, got, x, gray)
				}
			}
			flips[view.Flipped]++
			lefts[view.Left]++
			byRow[batch.Rows[i]] = append(byRow[batch.Rows[i]], view)
		}
	}
	if len(flips) != 2 || len(lefts) < 4 {
		t.Errorf("of 24 views, flipped %v and from the left %v", flips, lefts)
	}
	for row, views := range byRow {
		if len(views) != 6 || !slices.ContainsFunc(views, func(v View) bool { return v != views[0] }) {
			t.Errorf("row %d is seen as %v in all epochs", row, views)
		}
	}
}

// A pair of other shapes cannot be cropped alike.
func TestPairOfOtherShapes(t *testing.T) {
	dir := slopes(t, 2, 24, 16)
	if err := imaging.WritePNG(filepath.Join(dir, "square.png"), imaging.NewRGB(16, 16)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, metadataName), `{"file_name": "00.png", "conditioning_image": "01.png", "text": "fits"}
{"file_name": "01.png", "conditioning_image": "square.png", "text": "does not"}`)
	o := testOptions()
	o.Resolution, o.BatchSize, o.NeedConditioning = 16, 2, true
	d := openTest(t, dir, o)
	if batch := take(t, d, 0, 1)[0]; batch.Captions[0] != "fits" || batch.Captions[1] != "fits" {
		t.Errorf("got %q", batch.Captions)
	}
	if bad := fmt.Sprint(d.Report().Bad); !strings.Contains(bad, "it is 16×16, the image 24×16: want the same shape") {
		t.Errorf("got %s", bad)
	}
}

func TestFolders(t *testing.T) {
	image := func(dir, name string) {
		if err := imaging.WritePNG(filepath.Join(dir, name), imaging.NewRGB(32, 32)); err != nil {
			t.Fatal(err)
		}
	}
	captioned, bare, empty, named := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	image(captioned, "a.png")
	image(captioned, "b.PNG")
	writeFile(t, filepath.Join(captioned, "a.txt"), " a red circle\n")
	writeFile(t, filepath.Join(captioned, "b.txt"), "a blue circle")
	writeFile(t, filepath.Join(captioned, "notes.md"), "not an image")
	image(bare, "a.png")
	image(named, "a.png")
	for name, c := range map[string]struct {
		dir, metadata string
		change        func(*Options)
		want          string // in the error; "" opens
		captions      []string
	}{
		"captions in files":   {dir: captioned, captions: []string{"a red circle", "a blue circle"}},
		"no captions":         {dir: bare, want: "a.png has no caption: write it to a.txt beside it"},
		"captions not needed": {dir: bare, change: func(o *Options) { o.NoCaptions = true }, captions: []string{""}},
		"no images":           {dir: empty, want: "holds no dataset that is read: it has nothing. Read are "},
		"no conditioning images": {
			dir: captioned, change: func(o *Options) { o.NeedConditioning = true },
			want: "a.png has no conditioning image: name the folder of those with --conditioning_data_dir",
		},
		"metadata": {
			dir: named, metadata: `{"file_name": "a.png", "text": "one"}`, captions: []string{"one"},
		},
		"one image and no pair": {
			dir: named, metadata: `{"file_name": "a.png", "text": "one"}`,
			change: func(o *Options) { o.NeedConditioning = true },
			want:   "metadata.jsonl line 1: no conditioning_image",
		},
		"no such file": {
			dir: named, metadata: `{"file_name": "z.png", "text": "one"}`, want: "line 1: z.png is missing",
		},
		"outside": {
			dir: named, metadata: `{"file_name": "../a.png", "text": "one"}`,
			want: "../a.png: want a path within the folder: absolute paths and .. are refused unless they lie below " +
				"--image_root",
		},
		"no JSON": {
			dir: named, metadata: "\n{", want: "metadata.jsonl line 2: not JSON: unexpected end",
		},
		"another caption column": {
			dir: named, metadata: `{"file_name": "a.png", "prompt": "one"}`, want: "line 1: no text",
		},
	} {
		if c.metadata != "" {
			writeFile(t, filepath.Join(c.dir, metadataName), c.metadata)
		}
		o := testOptions()
		o.NeedConditioning = false
		if c.change != nil {
			c.change(&o)
		}
		d, err := Open([]string{c.dir}, o)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if err != nil {
			continue
		}
		for i, want := range c.captions {
			if row, err := d.Row(i); err != nil || row.Caption != want {
				t.Errorf("%s: row %d is %q, want %q (%v)", name, i, row.Caption, want, err)
			}
		}
		if d.Len() != len(c.captions) {
			t.Errorf("%s: %d rows, want %d", name, d.Len(), len(c.captions))
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Half of each batch is of the class, whose rows are gone through by themselves.
func TestOpenBoth(t *testing.T) {
	o := testOptions()
	o.Resolution, o.BatchSize, o.NeedConditioning = 16, 4, false
	d, err := OpenBoth([]string{slopes(t, 4, 16, 16)}, []string{slopes(t, 3, 16, 16)}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.StepsPerEpoch() != 2 || d.Len() != 7 {
		t.Fatalf("%d steps an epoch of %d rows, want 2 of 7", d.StepsPerEpoch(), d.Len())
	}
	seen := map[int64]int{}
	for _, batch := range take(t, d, 0, 6) {
		for i, row := range batch.Rows {
			seen[row]++
			if class := i >= 2; class != (row >= 4) || class != (batch.Captions[i] == "") {
				t.Errorf("row %d of the batch is row %d, %q", i, row, batch.Captions[i])
			}
		}
	}
	for row := range int64(7) {
		if want := map[bool]int{false: 3, true: 4}[row >= 4]; seen[row] != want {
			t.Errorf("row %d was seen %d times, want %d", row, seen[row], want)
		}
	}
}

// Pairs that are all of other shapes are found when the dataset is opened.
func TestNoPairOfTheSameShape(t *testing.T) {
	dir := slopes(t, 2, 24, 16)
	if err := imaging.WritePNG(filepath.Join(dir, "square.png"), imaging.NewRGB(16, 16)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, metadataName), `{"file_name": "00.png", "conditioning_image": "square.png", "text": "a"}
{"file_name": "01.png", "conditioning_image": "square.png", "text": "b"}`)
	o := testOptions()
	o.Resolution, o.BatchSize, o.NeedConditioning = 16, 2, true
	want := "row 0: conditioning_image: it is 16×16, the image 24×16: " +
		"want the same shape, since both are cropped alike (and 1 rows after it)"
	if _, err := Open([]string{dir}, o); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
