// Package disk reads files that a stranger or a typing error may have named, publishes files and folders whole or not
// at all, and knows what is free on a disk.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrNotRegular says that a path names no regular file. A link to one is taken as the file.
var ErrNotRegular = errors.New("not a regular file")

// Open opens a regular file for reading. A folder, pipe, device or socket is refused with an *fs.PathError that wraps
// ErrNotRegular, and nothing is waited for: opening a pipe in the ordinary way lasts until somebody writes into it.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w but %s", ErrNotRegular, kind(info.Mode()))}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// OpenSize opens a regular file for reading, as Open, and says how many bytes it has now.
func OpenSize(path string) (f *os.File, size int64, err error) {
	if f, err = Open(path); err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// kind names what a path is that is no regular file.
func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}

// ReadFile reads a regular file of at most limit bytes. A larger one is refused before memory is taken, and one that
// grows while it is read is not read past the limit.
func ReadFile(path string, limit int64) (content []byte, err error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, tooLarge(path, info.Size(), limit)
	}
	content = make([]byte, 0, info.Size()+1)
	for {
		if len(content) == cap(content) {
			content = append(content, 0)[:len(content)]
		}
		n, err := f.Read(content[len(content):min(int64(cap(content)), limit+1)])
		content = content[:len(content)+n]
		switch {
		case int64(len(content)) > limit:
			return nil, tooLarge(path, int64(len(content)), limit)
		case err == io.EOF:
			return content, nil
		case err != nil:
			return nil, err
		}
	}
}

func tooLarge(path string, size, limit int64) error {
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%d bytes, at most %d are read of such a file",
		size, limit)}
}
