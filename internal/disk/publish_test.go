package disk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fillTwo writes a file and a folder with another.
func fillTwo(dir string) error {
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o644),
		os.WriteFile(filepath.Join(dir, "below", "b"), []byte("b"), 0o644))
}

// Everything in a folder is synced before it has its name, and its name after that; whichever sync fails, no part of it
// has the name.
func TestPublishFolderSyncsFirst(t *testing.T) {
	var synced []string
	path := filepath.Join(t.TempDir(), "out")
	err := publishFolder(path, fillTwo, func(f *os.File) error {
		name := f.Name()
		if _, err := os.Stat(path); (err == nil) != (name == filepath.Dir(path)) {
			t.Errorf("%s is synced while the folder is there: %v", name, err == nil)
		}
		if i := strings.Index(name, ".tmp-"); i >= 0 {
			_, name, _ = strings.Cut(name[i:], "/")
		}
		synced = append(synced, name)
		return f.Sync()
	})
	if want := []string{"", "a", "below", "below/b", filepath.Dir(path)}; err != nil || !slices.Equal(synced, want) {
		t.Errorf("synced %q (%v), want %q", synced, err, want)
	}
	for fail := range len(synced) - 1 {
		path, n := filepath.Join(t.TempDir(), "out"), 0
		err := publishFolder(path, fillTwo, func(*os.File) error {
			if n++; n > fail {
				return os.ErrInvalid
			}
			return nil
		})
		if !errors.Is(err, os.ErrInvalid) || !strings.Contains(err.Error(), "write folder "+path) {
			t.Errorf("sync %d: got %v", fail, err)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
			t.Errorf("sync %d: left %v, %v", fail, left, err)
		}
	}
}

func TestPublishFolderKeepsWhatIsThere(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(path string) error
		fails   bool
	}{
		"nothing":      {func(string) error { return nil }, false},
		"empty folder": {func(path string) error { return os.Mkdir(path, 0o700) }, false},
		"folder":       {func(path string) error { return os.MkdirAll(filepath.Join(path, "mine"), 0o755) }, true},
		"file":         {func(path string) error { return os.WriteFile(path, nil, 0o644) }, true},
		"link":         {func(path string) error { return os.Symlink("elsewhere", path) }, true},
		"above":        {func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "parent", "out")
			if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), c.prepare(path)); err != nil {
				t.Fatal(err)
			}
			err := PublishFolder(path, fillTwo)
			if (err != nil) != c.fails {
				t.Fatalf("got %v", err)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
				t.Errorf("left %v, %v", left, err)
			}
			if raw, err := os.ReadFile(filepath.Join(path, "below", "b")); !c.fails && string(raw) != "b" {
				t.Errorf("got %q, %v", raw, err)
			}
		})
	}
}

// A file that cannot be written to its end leaves the one before it, and nothing else.
func TestReplaceKeepsTheFileBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := WriteFile(path, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := Replace(path, 0o644, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 3<<20))
		return errors.Join(err, os.ErrInvalid)
	})
	if !errors.Is(err, os.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "before" {
		t.Errorf("got %d bytes, %v", len(raw), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}
