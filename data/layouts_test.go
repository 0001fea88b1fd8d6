package data

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"limner/data/imaging"
)

// onePNG is an image file.
func onePNG(t *testing.T) string {
	t.Helper()
	raw, err := imaging.EncodePNG(imaging.NewRGB(16, 16))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// writeTree writes files by their paths within a new folder.
func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, content)
	}
	return dir
}

// claimingZip is an archive of an empty file that claims to become so many bytes.
func claimingZip(t *testing.T, name string, size uint64) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	if _, err := w.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Deflate, UncompressedSize64: size}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// tarOf is an archive of pairs of a name and a content, in order.
func tarOf(t *testing.T, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for pair := range slices.Chunk(files, 2) {
		err := w.WriteHeader(&tar.Header{Name: pair[0], Mode: 0o644, Size: int64(len(pair[1]))})
		if err == nil {
			_, err = w.Write([]byte(pair[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What is read of folders that goldens do not have, and what is said of those that cannot be read.
func TestLayouts(t *testing.T) {
	png := onePNG(t)
	for name, c := range map[string]struct {
		files    map[string]string
		path     string // within the folder
		change   func(o *Options, dir string)
		want     string // in the error; "" opens
		captions []string
	}{
		"names with spaces and other letters": {
			files: map[string]string{
				"a b/über 1.png": png, "a b/über 1.txt": "ü", "猫/猫.png": png, "猫/猫.caption": "猫",
			},
			captions: []string{"ü", "猫"},
		},
		"images of the folder, not of those below": {
			files:    map[string]string{"a.png": png, "a.txt": "a", "more/b.png": png},
			captions: []string{"a"},
		},
		"split folders": {
			files: map[string]string{
				"train/a.png": png, "train/a.txt": "a", "test/b.png": png, "test/b.txt": "b",
			},
			change:   func(o *Options, _ string) { o.Split = "test" },
			captions: []string{"b"},
		},
		"no such split": {
			files:  map[string]string{"train.jsonl": `{"file_name": "a.png", "text": "a"}`, "a.png": png},
			change: func(o *Options, _ string) { o.Split = "night" },
			want:   "has no split night: it has train.jsonl of the split train",
		},
		"a split of another name": {
			files: map[string]string{
				"night/metadata.jsonl": `{"file_name": "a.png", "text": "a"}`, "night/a.png": png,
				"day/metadata.jsonl": `{"file_name": "a.png", "text": "b"}`, "day/a.png": png,
			},
			change:   func(o *Options, _ string) { o.Split = "night" },
			captions: []string{"a"},
		},
		"configurations": {
			files: map[string]string{
				"en/metadata.jsonl": `{"file_name": "a.png", "text": "a"}`, "en/a.png": png,
				"fr/metadata.jsonl": `{"file_name": "a.png", "text": "b"}`, "fr/a.png": png,
			},
			want: "holds several configurations: en, fr; choose one with --dataset_config_name",
		},
		"a configuration": {
			files: map[string]string{
				"en/metadata.jsonl": `{"file_name": "a.png", "text": "a"}`, "en/a.png": png,
				"fr/metadata.jsonl": `{"file_name": "a.png", "text": "b"}`, "fr/a.png": png,
			},
			change:   func(o *Options, _ string) { o.DatasetConfigName = "fr" },
			captions: []string{"b"},
		},
		"no repeats": {
			files: map[string]string{"0_cat/a.png": png, "0_cat/a.txt": "a"},
			want:  "the folder's name says that its images count 0 times an epoch",
		},
		"classes of repeated folders": {
			files:    map[string]string{"3_cat/a.png": png},
			change:   func(o *Options, _ string) { o.ClassCaptions = true },
			captions: []string{"cat"},
		},
		"one condition for two images": {
			files: map[string]string{
				"img/a/1.png": png, "img/b/1.png": png, "img/a/1.txt": "a", "img/b/1.txt": "b", "cond/1.png": png,
			},
			path: "img",
			change: func(o *Options, dir string) {
				o.NeedConditioning, o.ConditioningDataDir = true, filepath.Join(dir, "cond")
			},
			want: "a/1.png and b/1.png have one conditioning image",
		},
		"JSON in a WebDataset": {
			files:    map[string]string{"a.tar": tarOf(t, "0.png", png, "0.json", `{"text": ["a", "b"]}`)},
			captions: []string{"a"},
		},
		"a pattern": {
			files: map[string]string{
				"x-00.tar": tarOf(t, "0.png", png, "0.txt", "a"), "x-01.tar": tarOf(t, "0.png", png, "0.txt", "b"),
				"x-02.tar": tarOf(t, "0.png", png, "0.txt", "c"),
			},
			path: "x-{00..01}.tar", captions: []string{"a", "b"},
		},
		"a pattern of too much": {
			files: map[string]string{"x-0.tar": ""}, path: "x-{0..1}.tar", want: "x-1.tar",
		},
		"a compressed WebDataset": {
			files: map[string]string{"x.tar": "\x1f\x8b\x08"}, want: "x.tar: compressed by gzip",
		},
		"a large member": {
			files: map[string]string{
				"train.jsonl": `{"file_name": "a.png", "text": "a"}`,
				"images.zip":  claimingZip(t, "a.png", maxMember+1),
			},
			want: "images.zip, a.png: 268435457 bytes, at most 268435456 are read",
		},
		"broken CSV": {
			files: map[string]string{"metadata.csv": "file_name,text\na.png,\"a\nb", "a.png": png},
			want:  "metadata.csv: line ",
		},
		"a line of CSV that is too short": {
			files: map[string]string{"metadata.csv": "file_name,text\na.png\n", "a.png": png},
			want:  "metadata.csv: line 2: wrong number of fields",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeTree(t, c.files)
			o := testOptions()
			o.NeedConditioning, o.Resolution = false, 0
			if c.change != nil {
				c.change(&o, dir)
			}
			d, err := Open([]string{filepath.Join(dir, c.path)}, o)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if err != nil {
				return
			}
			defer d.Close()
			if d.Len() != len(c.captions) {
				t.Fatalf("%d rows, want %d", d.Len(), len(c.captions))
			}
			for i, want := range c.captions {
				if r, err := d.Row(i); err != nil || r.Caption != want {
					t.Errorf("row %d: %q (%v), want %q", i, r.Caption, err, want)
				}
			}
		})
	}
}

// Names that lead out of a dataset's folder are refused in every layout, and --image_root, which allows what lies below
// it, is named.
func TestPathTricks(t *testing.T) {
	png := onePNG(t)
	outside := writeTree(t, map[string]string{"secret.png": png})
	secret := filepath.Join(outside, "secret.png")
	type cell struct {
		Bytes *[]byte `parquet:"bytes"`
		Path  string  `parquet:"path"`
	}
	for _, name := range []string{"../secret.png", secret, "link.png", "folder/secret.png"} {
		layouts := map[string]string{
			"JSON": writeTree(t, map[string]string{
				"metadata.jsonl": fmt.Sprintf(`{"file_name": %q, "text": "a"}`, name),
			}),
			"CSV": writeTree(t, map[string]string{"metadata.csv": "file_name,text\n" + name + ",a\n"}),
			"fill50k": writeTree(t, map[string]string{
				"prompt.json": fmt.Sprintf(`{"target": %q, "source": %q, "prompt": "a"}`, name, name),
			}),
			"parquet": filepath.Dir(writeRows(t, []struct {
				Image cell   `parquet:"image"`
				Text  string `parquet:"text"`
			}{{cell{Path: name}, "a"}})),
		}
		if name == "link.png" {
			layouts["images"] = writeTree(t, map[string]string{"link.txt": "a"})
		}
		for layout, dir := range layouts {
			link(t, secret, filepath.Join(dir, "link.png"))
			link(t, outside, filepath.Join(dir, "folder"))
			o := testOptions()
			o.NeedConditioning, o.Resolution = false, 0
			d, err := Open([]string{dir}, o)
			if err == nil {
				d.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "--image_root") {
				t.Errorf("%s, %s: got %v", layout, name, err)
			}
			if o.ImageRoot = outside; name != secret {
				continue
			}
			if d, err = Open([]string{dir}, o); err != nil {
				t.Errorf("%s, below --image_root: %v", layout, err)
				continue
			}
			if _, err := d.Row(0); err != nil {
				t.Errorf("%s, below --image_root: %v", layout, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// Many rows of one image in a dictionary take the memory of one.
func TestDictionaryOfOneImage(t *testing.T) {
	const rows, size = 2000, 1 << 20
	type row struct {
		Image []byte `parquet:"image,dict"`
		Text  string `parquet:"text"`
	}
	image := append([]byte(onePNG(t)), make([]byte, size)...)
	path := filepath.Join(t.TempDir(), "rows.parquet")
	all := make([]row, rows)
	for i := range all {
		all[i] = row{Image: image, Text: "a"}
	}
	if err := parquet.WriteFile(path, all); err != nil {
		t.Fatal(err)
	}
	o := testOptions()
	o.NeedConditioning, o.Resolution = false, 0
	d := openTest(t, path, o)
	before := allocated()
	if _, err := d.Row(rows - 1); err != nil {
		t.Fatal(err)
	}
	if taken := allocated() - before; taken > 100*size {
		t.Errorf("%d bytes for a dictionary of %d", taken, size)
	}
}
