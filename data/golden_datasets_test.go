package data

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
)

// datasetGolden is a layout in datasets/expected.json, or a broken dataset.
type datasetGolden struct {
	Open      []string
	Rows      []datasetRow
	Classes   []string
	MustSay   []string     `json:"must_say"`
	MayAccept []datasetRow `json:"may_accept"`
}

type datasetRow struct {
	Split string
	rowGolden
	Texts   []string
	Label   *int
	Repeats int64
}

func datasetGoldens(t testing.TB) (layouts, broken map[string]datasetGolden) {
	var expected struct{ Layouts, Broken map[string]datasetGolden }
	golden.ReadJSON(t, &expected, "datasets", "expected.json")
	if len(expected.Layouts) == 0 || len(expected.Broken) == 0 {
		t.Fatal("no datasets in expected.json")
	}
	return expected.Layouts, expected.Broken
}

// goldenPath is what is opened of a golden in a folder, with the options that its kind needs.
func goldenPath(dir string, g datasetGolden) (string, Options) {
	o := DefaultOptions()
	if _, err := os.Stat(filepath.Join(dir, "cond")); err == nil { // images and conditions in folders of their own
		o.ConditioningDataDir = filepath.Join(dir, "cond")
		dir = filepath.Join(dir, "img")
	}
	if len(g.Classes) > 0 {
		o.ClassCaptions, o.NeedConditioning, o.Extra = true, false, []string{"class"}
	}
	return dir, o
}

func TestGoldenDatasetLayouts(t *testing.T) {
	layouts, _ := datasetGoldens(t)
	for name, g := range layouts {
		t.Run(name, func(t *testing.T) {
			dir, o := goldenPath(golden.Path(t, "datasets", name), g)
			checkDataset(t, []string{dir}, o, g)
		})
	}
}

// The files of a layout are named one by one.
func TestGoldenDatasetFiles(t *testing.T) {
	layouts, _ := datasetGoldens(t)
	for name, g := range layouts {
		splits := slices.ContainsFunc(g.Rows, func(r datasetRow) bool { return r.Split != g.Rows[0].Split })
		_, err := layoutOf(g.Open[0])
		if splits || err != nil || filepath.Ext(g.Open[0]) == "" { // one dataset is of one split, and these are folders
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir, o := goldenPath(golden.Path(t, "datasets", name), g)
			var paths []string
			for _, file := range g.Open {
				if filepath.Ext(file) != ".zip" { // is found beside the file that names its images
					paths = append(paths, filepath.Join(dir, file))
				}
			}
			checkDataset(t, paths, o, g)
		})
	}
}

// checkDataset compares the rows of each split.
func checkDataset(t *testing.T, paths []string, o Options, g datasetGolden) {
	t.Helper()
	splits := map[string][]datasetRow{}
	for _, row := range g.Rows {
		splits[row.Split] = append(splits[row.Split], row)
	}
	for split, rows := range splits {
		if o.Split = split; split == "train" {
			o.Split = ""
		}
		d, err := Open(paths, o)
		if err != nil {
			t.Errorf("split %s: %v", split, err)
			continue
		}
		checkRows(t, d, split, g.Classes, rows)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func checkRows(t *testing.T, d *Dataset, split string, classes []string, rows []datasetRow) {
	t.Helper()
	if d.Len() != len(rows) {
		t.Errorf("split %s: %d rows, want %d", split, d.Len(), len(rows))
		return
	}
	places := int64(0)
	for i, want := range rows {
		places += max(want.Repeats, 1)
		r, err := d.Row(i)
		if err != nil {
			t.Errorf("split %s: %v", split, err)
			continue
		}
		got := rowGolden{Text: r.Caption, Image: hashOf(r.Image)}
		if r.Conditioning != nil {
			got.Conditioning = hashOf(r.Conditioning)
		}
		if got != want.rowGolden {
			t.Errorf("split %s row %d: got %+v, want %+v", split, i, got, want.rowGolden)
		}
		if want.Texts != nil && !slices.Equal(r.Captions, want.Texts) {
			t.Errorf("split %s row %d: captions %q, want %q", split, i, r.Captions, want.Texts)
		}
		if want.Label != nil && slices.Index(classes, r.Extra["class"]) != *want.Label {
			t.Errorf("split %s row %d: class %q, want %q", split, i, r.Extra["class"], classes[*want.Label])
		}
	}
	if d.places != places {
		t.Errorf("split %s: %d rows an epoch, want %d", split, d.places, places)
	}
}

// said are the words in which a message has what expected.json wants in other ones.
var said = map[string]string{
	"bytes are null and the file is missing": "is missing",
	"truncated or no parquet":                "not a parquet file, or cut off",
}

// A broken dataset is refused when it is opened, and what is wrong is named.
func TestGoldenDatasetBroken(t *testing.T) {
	_, broken := datasetGoldens(t)
	for name, g := range broken {
		t.Run(name, func(t *testing.T) {
			dir, o := goldenPath(golden.Path(t, "datasets", "broken", name), g)
			var messages []string
			for _, o.NeedConditioning = range []bool{true, false} { // some have no conditioning images
				if d, err := Open([]string{dir}, o); err == nil {
					d.Close()
				} else {
					messages = append(messages, err.Error())
				}
			}
			says := func(message string) bool {
				for _, want := range g.MustSay {
					if text, ok := said[want]; ok {
						want = text
					}
					if !strings.Contains(message, want) {
						return false
					}
				}
				return true
			}
			if !slices.ContainsFunc(messages, says) {
				t.Errorf("got  %s\nwant %q", strings.Join(messages, "\nor   "), g.MustSay)
			}
			t.Log(strings.Join(messages, "\n"))
		})
	}
}
