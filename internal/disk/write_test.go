package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWritable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                                 "",
		filepath.Join(dir, "new"):           "",
		filepath.Join(dir, "a", "b", "new"): "",
		file:                                "not a directory",
		filepath.Join(file, "below"):        "not a directory",
		"/proc/limner/run":                  "",
	} {
		err := Writable(path)
		if refused := want != "" || strings.HasPrefix(path, "/proc"); (err != nil) != refused ||
			err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: want the file alone", entries, err)
	}
}

func TestExisting(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir: dir, filepath.Join(dir, "a", "b"): dir, "/": "/", "limner-nowhere/a": ".",
	} {
		if got := Existing(path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

// While a folder is tried nothing has a name in it, or the next start of a process that was killed would find it not
// empty.
func TestTryingLeavesNoName(t *testing.T) {
	for name, create := range map[string]func(string) (*os.File, error){"nameless": nameless, "removed": removed} {
		dir := t.TempDir()
		f, err := create(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write([]byte("some")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s: the folder holds %v, %v", name, entries, err)
		}
	}
}
