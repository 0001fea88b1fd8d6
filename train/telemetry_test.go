package train

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/data/imaging"
	"limner/internal/parity"
)

func TestTelemetry(t *testing.T) {
	var log strings.Builder
	written := newTelemetry(func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) })
	full := errors.New("no space left")
	for _, err := range []error{nil, full, full, nil, full, nil} {
		written.try("the diary", func() error { return err })
	}
	written.try("events", func() error { return full })
	want := "the diary cannot be written: no space left\n  training goes on without it, and it is tried again\nthe diary can be written again\n" +
		"events cannot be written: no space left\n  training goes on without it, and it is tried again\n"
	if log.String() != want {
		t.Errorf("got %q, want %q", &log, want)
	}
}

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

// A picture that cannot be written is left out of what is shown, and the next one is tried.
func TestValidationPicturesThatCannotBeWritten(t *testing.T) {
	dir, log := t.TempDir(), &strings.Builder{}
	r := &Run{Backend: parity.Backend(t), Options: Options{OutputDir: dir}, Log: log}
	v := &validator{run: r, outputDir: dir, written: newTelemetry(r.logf)}
	inTheWay := filepath.Join(dir, validationDir)
	if err := os.WriteFile(inTheWay, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(validationDir, "00.png")
	for range 2 {
		if got := v.write(name, imaging.NewRGB(4, 4)); got != "" {
			t.Errorf("got %q of a picture that cannot be written", got)
		}
	}
	w := &watcher{run: r, options: r.Options, smalls: map[string]string{}, validated: []Validated{{Step: 1, Images: []ValidatedImage{{Prompt: "a"}}}}}
	shown, err := w.diaryValidations()
	if err != nil || len(shown) != 1 || len(shown[0].Images) != 0 {
		t.Errorf("the diary shows %+v, %v", shown, err)
	}
	if err := w.validated[0].events(&events{dir: dir}, dir); err != nil {
		t.Error(err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if got := v.write(name, imaging.NewRGB(4, 4)); got != name {
		t.Errorf("got %q, want %q", got, name)
	}
	if n := strings.Count(log.String(), "a picture of validation cannot be written"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log)
	}
}
