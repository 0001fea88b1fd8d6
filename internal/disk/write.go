package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Existing is the folder itself, or if there is none the nearest one above it that exists.
func Existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			return dir
		}
		dir = above
	}
}

// Writable fails if a folder cannot be created or files cannot be written into it. It tries, since permissions do not
// show a full or read-only disk, and removes what it created.
func Writable(dir string) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	existing := Existing(dir)
	defer func() {
		for created := dir; created != existing; created = filepath.Dir(created) {
			_ = os.Remove(created) // it stays if others have put something into it
		}
	}()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := nameless(dir)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		err = fmt.Errorf("write into %s: %w", dir, err)
	}
	return errors.Join(err, f.Close())
}

// removed creates a file in a folder and removes its name at once, so that a process that is killed leaves nothing
// behind.
func removed(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".limner-try-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
