package disk

import (
	"os"
	"path/filepath"
	"testing"
)

func TestContent(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if entries, err := Content(dir); err != nil || len(entries) != 0 {
		t.Errorf("got %v, %v, want nothing", entries, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "lost"), 0o700); err != nil {
		t.Fatal(err)
	}
	if entries, err := Content(dir); err != nil || len(entries) != 1 || entries[0].Name() != "lost" {
		t.Errorf("got %v, %v, want the folder lost", entries, err)
	}
	if _, err := Content(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("got %v, want that it is not there", err)
	}
}
