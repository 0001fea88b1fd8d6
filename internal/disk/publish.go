package disk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/renameio/v2"
)

// WriteFile writes a file that appears under its name once it is complete and on the disk, or not at all. An existing
// file of that name stays until then, and the new one takes over its permissions.
func WriteFile(path string, content []byte, perm fs.FileMode) error {
	return replace(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}, renameio.WithPermissions(perm), renameio.WithExistingPermissions())
}

// Replace calls fill to write a file that appears under its name once it is complete and on the disk, or not at all. An
// existing file of that name stays until then. An error of fill is returned unchanged.
func Replace(path string, perm fs.FileMode, fill func(io.Writer) error) error {
	return replace(path, fill, renameio.WithPermissions(perm))
}

func replace(path string, fill func(io.Writer) error, options ...renameio.Option) (err error) {
	f, err := renameio.NewPendingFile(path, append(options, renameio.WithTempDir(filepath.Dir(path)))...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := fill(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// ReplaceLink makes path a symbolic link to target, in place of what has that name.
func ReplaceLink(target, path string) error { return renameio.Symlink(target, path) }

// PublishFolder calls fill to write a new folder beside path, and renames it to path once all of its content is on the
// disk. So path appears complete or not at all. path must not exist, or be an empty folder. An error of fill is
// returned unchanged.
func PublishFolder(path string, fill func(aside string) error) error {
	return publishFolder(path, fill, (*os.File).Sync)
}

func publishFolder(path string, fill func(aside string) error, sync func(*os.File) error) (err error) {
	path = filepath.Clean(path)
	parent := filepath.Dir(path)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("write folder %s: %w", path, err)
	}
	aside, err := os.MkdirTemp(parent, "."+filepath.Base(path)+".tmp-")
	if err != nil {
		return fmt.Errorf("write folder %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(aside))
		}
	}()
	if err := fill(aside); err != nil {
		return err
	}
	return publishFilled(aside, path, sync)
}

// PublishFilled renames a folder that was written aside to path, on the same disk, once all of its content is on the
// disk. path must not exist, or be an empty folder. If it fails, the folder stays where it is.
func PublishFilled(aside, path string) error {
	return publishFilled(aside, filepath.Clean(path), (*os.File).Sync)
}

func publishFilled(aside, path string, sync func(*os.File) error) error {
	failed := func(err error) error { return fmt.Errorf("write folder %s: %w", path, err) }
	if err := os.Chmod(aside, 0o755); err != nil {
		return failed(err)
	}
	err := filepath.WalkDir(aside, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		return syncPath(name, sync)
	})
	if err != nil {
		return failed(err)
	}
	// Remove would also remove a file, which a folder must not replace.
	if info, err := os.Lstat(path); err == nil && !info.IsDir() {
		return failed(errors.New("there is a file of that name"))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(err)
	}
	if err := os.Rename(aside, path); err != nil {
		return failed(err)
	}
	if err := syncPath(filepath.Dir(path), sync); err != nil {
		return failed(err)
	}
	return nil
}

// SyncDir writes the names in a folder to the disk, if the system can.
func SyncDir(dir string) error { return syncPath(dir, (*os.File).Sync) }

// syncPath puts a file, or the names in a folder, on the disk.
func syncPath(path string, sync func(*os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = sync(f)
	if info, statErr := f.Stat(); runtime.GOOS == "windows" && statErr == nil && info.IsDir() {
		err = nil // folders cannot be synced there
	}
	return errors.Join(err, f.Close())
}
