package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Existing is the folder itself, or where it is not there the nearest one above it that is.
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

// Writable fails where a folder cannot be made or files cannot be written into it. It tries: permissions alone do not
// tell of disks that are full or can only be read. What it makes for that it removes again.
func Writable(dir string) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	existing := Existing(dir)
	defer func() {
		for made := dir; made != existing; made = filepath.Dir(made) {
			_ = os.Remove(made) // one that others have put something into stays
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

// removed creates a file in a folder and takes its name away again, so that a process that is killed leaves nothing
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
