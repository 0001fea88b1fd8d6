package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"limner/data/imaging"
)

func TestTelemetry(t *testing.T) {
	var log strings.Builder
	written := newTelemetry(func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) })
	full := errors.New("no space left")
	for _, err := range []error{nil, full, full, nil, full, nil} {
		written.try("the diary", func() error { return err })
	}
	written.try("events", func() error { return full })
	want := "the diary cannot be written: no space left\n  training goes on without it, and it is tried again\n" +
		"the diary can be written again\n" +
		"events cannot be written: no space left\n  training goes on without it, and it is tried again\n"
	if log.String() != want {
		t.Errorf("got %q, want %q", &log, want)
	}
}

// A picture that cannot be written is left out of what is shown, and the next one is tried.
func TestValidationPicturesThatCannotBeWritten(t *testing.T) {
	dir, log := t.TempDir(), &strings.Builder{}
	written := newTelemetry(func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) })
	v := &validator{outputDir: dir, writes: true, written: written}
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
	validated := []Validated{{Step: 1, Images: []ValidatedImage{{Prompt: "a"}}}}
	shown, err := newDiary(Run{OutputDir: dir}, time.Now()).validations(validated)
	if err != nil || len(shown) != 1 || len(shown[0].Groups) != 0 {
		t.Errorf("the diary shows %+v, %v", shown, err)
	}
	if err := validated[0].events(&events{dir: dir}, dir); err != nil {
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
