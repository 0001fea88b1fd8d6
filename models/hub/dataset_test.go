package hub

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChooseDataset(t *testing.T) {
	shards := func(name string, n, of int) string {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("%s-%05d-of-%05d.parquet", name, i, of))
		}
		return strings.Join(names, " ")
	}
	for name, c := range map[string]struct {
		files, at, want, missing, err string
		s                             Selection
	}{
		"fill50k": {
			files: ".gitattributes fill50k.py train.jsonl images.zip conditioning_images.zip README.md",
			want:  "train.jsonl images.zip conditioning_images.zip",
		},
		"only training": {
			files: "README.md data/test.parquet " + shards("data/train", 2, 2) + " " + shards("data/validation", 1, 1),
			want:  shards("data/train", 2, 2),
		},
		"no split named": {files: "0000.parquet 0001.parquet", want: "0000.parquet 0001.parquet"},
		"only held out":  {files: "test.parquet", want: "test.parquet"},
		"a name that begins like a split's": {
			files: "train/testimony.parquet train/devon.parquet", want: "train/testimony.parquet train/devon.parquet",
		},
		"parquet before pictures": {files: "train.parquet preview.png", want: "train.parquet"},
		"pictures": {
			files: "train/metadata.jsonl train/a.PNG train/b.jpeg train/c.py",
			want:  "train/metadata.jsonl train/a.PNG train/b.jpeg",
		},
		"a configuration": {
			files: "one/train/0000.parquet two/train/0000.parquet two/test/0000.parquet",
			s:     Selection{Config: "two"}, want: "two/train/0000.parquet",
		},
		"a configuration that no folder tells": {
			files: "train.parquet", s: Selection{Config: "two"}, want: "train.parquet",
		},
		"all splits": {
			files: "train.parquet test.parquet", s: Selection{AllSplits: true},
			want: "train.parquet test.parquet",
		},
		"a folder": {files: "a/x.parquet b/x.parquet", at: "a", want: "a/x.parquet"},
		"one of several": {
			files: shards("data/train", 2, 2), at: "data/train-00001-of-00002.parquet",
			want: "data/train-00001-of-00002.parquet",
		},
		"one file":       {files: "a/x.parquet b/x.parquet", at: "a/x.parquet", want: "a/x.parquet"},
		"no such folder": {files: "a/x.parquet b/x.parquet", at: "c", err: "has no data in a folder c, but in a, b"},
		"a shard lacks": {
			files: shards("data/train", 2, 3), want: shards("data/train", 2, 3),
			missing: "data/train-00002-of-00003.parquet",
		},
		"a script alone":      {files: "load.py README.md data.bin model.pkl", err: "refs/convert/parquet"},
		"hidden":              {files: ".cache.json x.parquet/.png", err: "no files of data"},
		"more shards than is": {files: "a-00000-of-99999.parquet", want: "a-00000-of-99999.parquet"},
	} {
		t.Run(name, func(t *testing.T) {
			var files []file
			for _, f := range strings.Fields(c.files) {
				files = append(files, file{path: f})
			}
			got, err := chooseDataset(files, c.at, c.s)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range got.files {
				names = append(names, f.path)
			}
			if diff := cmp.Diff(strings.Fields(c.want), names); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.missing, strings.Join(got.missing, " ")); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFetchDataset brings a dataset's files into Python's place for them, and finds them again offline.
func TestFetchDataset(t *testing.T) {
	repo := &fakeRepo{files: map[string][]byte{
		"README.md": []byte("# a dataset"), "load.py": []byte("print()"),
		"data/train-00000-of-00002.parquet": make([]byte, 20_000), "data/train-00001-of-00002.parquet": []byte("b"),
		"data/test-00000-of-00001.parquet": []byte("c"),
	}}
	hub := newFakeHub(t, map[string]*fakeRepo{
		"datasets/org/name": repo, "org/name": {files: pipelineFiles()}, "datasets/org/script": {
			files: map[string][]byte{"load.py": []byte("print()")},
		},
	})
	o := hub.options(t)
	ref, err := ParseDatasetRef("org/name")
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(o.Cache, "datasets--org--name", "snapshots", testCommit)
	for _, o.Offline = range []bool{false, true} {
		s, err := newClient(t, o).Fetch(t.Context(), ref, Selection{})
		if err != nil {
			t.Fatal(err)
		}
		checkFiles(t, s, repo)
		if s.Dir != want || s.Path != want {
			t.Errorf("got %s and %s, want %s", s.Dir, s.Path, want)
		}
		files := []string{"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"}
		if diff := cmp.Diff(files, slices.Sorted(slices.Values(s.Files))); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}
	o.Offline = false
	for name, part := range map[string]string{
		"org/script":  "has no files of data that can be read",
		"org/nowhere": "no public dataset org/nowhere",
		"org/name@x":  "/datasets/org/name/tree/main",
	} {
		ref, err := ParseDatasetRef(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newClient(t, o).Fetch(t.Context(), ref, Selection{}); err == nil ||
			!strings.Contains(err.Error(), part) {
			t.Errorf("%s: got %v, want %q", name, err, part)
		}
	}
	const short = `dataset "cifar10": want org/name`
	if _, err := ParseDatasetRef("cifar10"); err == nil || !strings.Contains(err.Error(), short) {
		t.Errorf("got %v, want %q", err, short)
	}
}
