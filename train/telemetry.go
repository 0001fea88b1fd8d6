package train

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// telemetry is what is written of a run beside its checkpoints and its result. A disk that is full or fails does not end the run: what
// cannot be written is left out, which is said once of each kind, and the next of its kind is tried again.
type telemetry struct {
	logf func(format string, args ...any)
	kept map[string]*outage // by what was to be written
}

// outage is a kind of telemetry that could not be written at some time.
type outage struct {
	lost int  // how many of it were left out
	back bool // it could be written again, which was said
}

func newTelemetry(logf func(format string, args ...any)) *telemetry {
	return &telemetry{logf: logf, kept: map[string]*outage{}}
}

// try writes, and takes notice of a failure.
func (t *telemetry) try(what string, write func() error) {
	err := write()
	o := t.kept[what]
	switch {
	case err == nil && o != nil && !o.back:
		o.back = true
		t.logf("%s can be written again", what)
	case err != nil && o == nil:
		t.kept[what] = &outage{lost: 1}
		t.logf("%s cannot be written: %v\n  training goes on without it, and it is tried again", what, err)
	case err != nil:
		o.lost++
	}
}

// appendedFile is what appended does to its file.
type appendedFile interface {
	io.WriteCloser
	Truncate(size int64) error
	Sync() error
}

// appended is a file that grows by whole records: what a failing disk took of a record is cut off again, so that the next one stands behind
// the last whole one.
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
