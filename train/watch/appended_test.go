package watch

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// tearing is a file on a disk with room for some more bytes.
type tearing struct {
	*os.File
	room  int
	stuck bool // cutting off fails too
}

func (f *tearing) Write(p []byte) (int, error) {
	if len(p) <= f.room {
		f.room -= len(p)
		return f.File.Write(p)
	}
	n, err := f.File.Write(p[:f.room])
	f.room = 0
	return n, errors.Join(err, errors.New("no space left"))
}

func (f *tearing) Truncate(size int64) error {
	if f.stuck {
		return errors.New("input/output error")
	}
	return f.File.Truncate(size)
}

// Whatever a disk takes of a record, the file has whole ones only once it takes all again.
func TestAppendedIsWhole(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "lines")
		if err := appendLine(path, []byte("old")); err != nil {
			t.Fatal(err)
		}
		a, err := openAppended(path)
		if err != nil {
			t.Fatal(err)
		}
		disk := &tearing{File: a.file.(*os.File), room: 7, stuck: stuck}
		a.file = disk
		if err := a.write([]byte("one\n")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := a.write([]byte("two\n")); err == nil {
				t.Error("no error on a full disk")
			}
		}
		disk.room, disk.stuck = 100, false
		if err := errors.Join(a.write([]byte("three\n")), a.sync(), a.close()); err != nil {
			t.Fatal(err)
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != "old\none\nthree\n" {
			t.Errorf("got %q, %v", raw, err)
		}
	}
}
