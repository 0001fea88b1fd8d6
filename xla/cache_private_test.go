package xla

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Programs that others could have put there are not loaded, which one sentence says.
func TestProgramsOfOthersAreNotLoaded(t *testing.T) {
	o := Options{Cache: t.TempDir()}
	good := doWalk(t, o, walk(0.1))
	path := only(t, o.Cache)

	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	anew := doWalk(t, o, walk(0.1))
	if want := "compiling anew: " + path + " can be written by other users"; anew.program.FromCache ||
		!strings.HasPrefix(anew.log, want) || strings.Count(anew.log, "\n") != 1 {
		t.Errorf("loaded %t, said %q, want one line with %q", anew.program.FromCache, anew.log, want)
	}
	if again := doWalk(t, o, walk(0.1)); !again.program.FromCache || again.log != "" ||
		len(again.values) != len(good.values) {
		t.Errorf("the program that took its place: loaded %t, said %q", again.program.FromCache, again.log)
	}

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(o.Cache, 0o777); err != nil {
		t.Fatal(err)
	}
	shared := doWalk(t, o, walk(0.1))
	if want := o.Cache + " can be written by other users"; shared.program.FromCache ||
		!strings.Contains(shared.log, want) || strings.Count(shared.log, "\n") != 1 {
		t.Errorf("loaded %t, said %q, want one line with %q", shared.program.FromCache, shared.log, want)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(whole) {
		t.Errorf("the folder was written to: %v", err)
	}
}

// A pipe or a device in a program's place is neither waited for nor read.
func TestProgramsAreRegularFiles(t *testing.T) {
	o := Options{Cache: t.TempDir()}
	doWalk(t, o, walk(0.1))
	path := only(t, o.Cache)
	for name, put := range map[string]func() error{
		"a pipe":   func() error { return unix.Mkfifo(path, 0o600) },
		"a device": func() error { return os.Symlink("/dev/zero", path) },
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := put(); err != nil {
			t.Fatal(err)
		}
		w := doWalk(t, o, walk(0.1))
		if w.program.FromCache || !strings.Contains(w.log, "compiling anew: ") || !strings.Contains(w.log, name) ||
			strings.Count(w.log, "\n") != 1 {
			t.Errorf("%s: loaded %t, said %q", name, w.program.FromCache, w.log)
		}
	}
}
