package sample

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Interrupted sampling continues with the images that are not there, and each image has its own seed.
func TestFolderMissing(t *testing.T) {
	dir := t.TempDir()
	f := Folder{Dir: filepath.Join(dir, "none"), Count: 3, Prompt: "dogs", Seed: 7}
	missing := func() []int {
		t.Helper()
		got, err := f.Missing()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := missing(); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("of a folder that is not there: %v are missing", got)
	}
	f.Dir = dir
	for _, name := range []string{"image-00001.png", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := missing(); !slices.Equal(got, []int{0, 2}) {
		t.Errorf("with image 1 there: %v are missing", got)
	}
	if r := f.Request([]int{0, 2}); !slices.Equal(r.Seeds, []uint64{7, 9}) ||
		!slices.Equal(r.Prompts, []string{"dogs", "dogs"}) {
		t.Errorf("seeds %v for %q", r.Seeds, r.Prompts)
	}
	for _, name := range []string{"mine.jpg", "his.webp"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := missing(); len(got) != 0 {
		t.Errorf("with three images there: %v are missing", got)
	}
}
