package data

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"limner/data/imaging"
)

// severalCaptions has a folder and a parquet file of the same row, with three captions and further columns.
func severalCaptions(t *testing.T) (folder, file string) {
	folder = slopes(t, 1, 16, 16)
	writeFile(t, filepath.Join(folder, metadataName), `{"file_name": "00.png", "text": ["a", "b", "c"], "source": "web",`+
		` "aesthetic": 5.25, "clean": true, "tags": ["x"], "licence": null}`)
	image, err := imaging.ReadFile(filepath.Join(folder, "00.png"))
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Image     []byte   `parquet:"image"`
		Text      []string `parquet:"text,list"`
		Source    string   `parquet:"source"`
		Aesthetic float64  `parquet:"aesthetic"`
		Clean     bool     `parquet:"clean"`
		Tags      []string `parquet:"tags,list"`
		Licence   *string  `parquet:"licence"`
	}
	file = filepath.Join(t.TempDir(), "rows.parquet")
	one := row{Image: image, Text: []string{"a", "b", "c"}, Source: "web", Aesthetic: 5.25, Clean: true}
	if err := parquet.WriteFile(file, []row{one, one, one}); err != nil {
		t.Fatal(err)
	}
	return folder, file
}

// A row has all captions and the further columns that are asked for; those that a file lacks are left out.
func TestCaptionsAndExtraColumns(t *testing.T) {
	folder, file := severalCaptions(t)
	for _, path := range []string{folder, file} {
		o := testOptions()
		o.NeedConditioning, o.Extra = false, []string{"source", "aesthetic", "clean", "tags", "licence", "absent"}
		d := openTest(t, path, o)
		want := map[string]string{"source": "web", "aesthetic": "5.25", "clean": "true"}
		for i := range d.Len() {
			r, err := d.Row(i)
			if err != nil || r.Caption != "a" || !slices.Equal(r.Captions, []string{"a", "b", "c"}) ||
				!maps.Equal(r.Extra, want) {
				t.Errorf("%s row %d: %q, %q, %v (%v)", path, i, r.Caption, r.Captions, r.Extra, err)
			}
		}
	}
}

// One caption is drawn in each epoch, by the seed, the row and the epoch alone.
func TestCaptionsAreDrawn(t *testing.T) {
	_, file := severalCaptions(t)
	o := testOptions()
	o.NeedConditioning, o.Resolution, o.BatchSize = false, 16, 3
	batches := take(t, openTest(t, file, o), 0, 12)
	sameBatches(t, "from batch 7 on", batches[7:], take(t, openTest(t, file, o), 7, 5))
	drawn, differs := map[string]int{}, false
	for _, batch := range batches {
		for _, caption := range batch.Captions {
			drawn[caption]++
			differs = differs || caption != batch.Captions[0]
		}
	}
	if len(drawn) != 3 || !differs {
		t.Errorf("drawn %v", drawn)
	}
}

// The tags of a caption are shuffled anew in each epoch, by the seed, the row and the epoch alone, and the first ones
// stay where they are.
func TestShuffleTags(t *testing.T) {
	dir := slopes(t, 4, 16, 16)
	const caption = " sks dog, a , b,c,, d "
	var lines strings.Builder
	for i := range 4 {
		fmt.Fprintf(&lines, `{"file_name": "%02d.png", "text": %q}`+"\n", i, caption)
	}
	writeFile(t, filepath.Join(dir, metadataName), lines.String())
	o := testOptions()
	o.NeedConditioning, o.Resolution, o.BatchSize = false, 16, 2
	for _, batch := range take(t, openTest(t, dir, o), 0, 2) {
		if batch.Captions[0] != caption || batch.Captions[1] != caption {
			t.Errorf("without the flag: %q", batch.Captions)
		}
	}
	for keep, want := range []int{120, 24, 6, 2, 1, 1, 1} { // orders of the tags that may be drawn
		o.ShuffleTags, o.KeepTokens = true, keep
		d := openTest(t, dir, o)
		batches := take(t, d, 0, 40)
		orders := map[string]bool{}
		for _, batch := range batches {
			for _, got := range batch.Captions {
				orders[got] = true
				tags, all := strings.Split(got, ", "), []string{"sks dog", "a", "b", "c", "d"}
				if kept := min(keep, 5); !slices.Equal(tags[:kept], all[:kept]) {
					t.Errorf("keep %d: %q", keep, got)
				}
				slices.Sort(tags)
				if slices.Sort(all); !slices.Equal(tags, all) {
					t.Errorf("keep %d: %q has other tags", keep, got)
				}
			}
		}
		if len(orders) > want || len(orders) < min(want, 20) {
			t.Errorf("keep %d: %d orders, want %d", keep, len(orders), want)
		}
		o.Workers = 3
		sameBatches(t, "going on", batches[5:], take(t, openTest(t, dir, o), 5, 35))
	}
	for want, change := range map[string]func(*Options){
		"keep_tokens -1: want 0 or more":        func(o *Options) { o.ShuffleTags, o.KeepTokens = true, -1 },
		"keep_tokens: it says which tags":       func(o *Options) { o.KeepTokens = 1 },
		"shuffle_tags: no captions are read of": func(o *Options) { o.ShuffleTags, o.NoCaptions = true, true },
	} {
		o := testOptions()
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
