package data

import (
	"maps"
	"path/filepath"
	"slices"
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
