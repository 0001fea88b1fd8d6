package batch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOutputRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	folders := []string{filepath.Join(dir, "file"), filepath.Join(dir, "file", "below")}
	if os.Getuid() != 0 { // who may write everywhere
		folders = append(folders, locked, filepath.Join(locked, "a", "b"))
	}
	for _, out := range folders {
		if o, err := openOutput(out, false); err == nil || !strings.Contains(err.Error(), "output folder: ") {
			t.Errorf("%s: %v, %v", out, o, err)
		}
	}
	o, err := openOutput(filepath.Join(dir, "a", "b"), false)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("looking at a folder left %v, %v", entries, err)
	}
	if err := o.checkSpace(1 << 60); err == nil || !strings.Contains(err.Error(), "MB are free") {
		t.Errorf("of a full disk: %v", err)
	}
}
