package watch

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// appendedFile is what appended does to its file.
type appendedFile interface {
	io.WriteCloser
	Truncate(size int64) error
	Sync() error
}

// appended is a file that grows by whole records: what a failing disk took of a record is cut off again, so that the
// next one stands behind the last whole one.
type appended struct {
	file appendedFile
	size int64 // of the whole records
	torn bool  // there is more behind them
}

// openAppended opens a file that is there, or makes one.
func openAppended(path string) (*appended, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &appended{file: f, size: info.Size()}, nil
}

// write appends a record, or nothing.
func (a *appended) write(record []byte) error {
	if a.torn {
		if err := a.file.Truncate(a.size); err != nil {
			return err
		}
		a.torn = false
	}
	if _, err := a.file.Write(record); err != nil {
		a.torn = a.file.Truncate(a.size) != nil
		return err
	}
	a.size += int64(len(record))
	return nil
}

func (a *appended) sync() error { return a.file.Sync() }

func (a *appended) close() error { return a.file.Close() }

// appendLine appends one line to a file and makes it durable.
func appendLine(path string, line []byte) error {
	a, err := openAppended(path)
	if err != nil {
		return err
	}
	err = a.write(append(line, '\n'))
	if err == nil {
		err = a.sync()
	}
	if err := errors.Join(err, a.close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
