package folder

import (
	"io"
	"io/fs"
	"os"

	"limner/internal/disk"
)

// fileSystem is all that saving a checkpoint does to the disk, so that tests can make each call fail in turn.
type fileSystem interface {
	ReadDir(path string) ([]fs.DirEntry, error)
	Mkdir(path string) error
	Create(path string) (newFile, error) // fails if there is one
	Rename(from, to string) error
	RemoveAll(path string) error
	SyncDir(path string) error // makes the names in a folder durable
}

// newFile is a file that is being written.
type newFile interface {
	io.Writer
	Sync() error
	Close() error
}

// realFiles are those of the disk.
type realFiles struct{}

func (realFiles) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
func (realFiles) Mkdir(path string) error                    { return os.Mkdir(path, 0o755) }
func (realFiles) Rename(from, to string) error               { return os.Rename(from, to) }
func (realFiles) RemoveAll(path string) error                { return os.RemoveAll(path) }

func (realFiles) Create(path string) (newFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

func (realFiles) SyncDir(path string) error { return disk.SyncDir(path) }
