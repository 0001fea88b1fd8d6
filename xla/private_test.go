package xla

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckPrivate(t *testing.T) {
	const mine, other = "", " belongs to user 12345"
	for name, c := range map[string]struct {
		change func(folder, file string) error
		want   string
	}{
		"own":                           {func(string, string) error { return nil }, mine},
		"read by others":                {func(folder, file string) error { return chmods(0o755, folder, 0o644, file) }, mine},
		"a file that a group can write": {func(_, file string) error { return os.Chmod(file, 0o620) }, "can be written by other users (its mode is 0620): chmod go-w"},
		"a file that all can write":     {func(_, file string) error { return os.Chmod(file, 0o602) }, "(its mode is 0602)"},
		"a folder that all can write":   {func(folder, _ string) error { return os.Chmod(folder, 0o777) }, "(its mode is 0777)"},
		"a folder like /tmp":            {func(folder, _ string) error { return os.Chmod(folder, 0o777|os.ModeSticky) }, mine},
		"another user's file":           {func(_, file string) error { return os.Chown(file, 12345, -1) }, other},
		"another user's folder":         {func(folder, _ string) error { return os.Chown(folder, 12345, -1) }, other},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "folder")
			file := filepath.Join(folder, "file")
			link := filepath.Join(t.TempDir(), "link")
			for _, err := range []error{os.Mkdir(folder, 0o700), os.WriteFile(file, nil, 0o600), os.Symlink(file, link)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if c.want == other && os.Geteuid() != 0 {
				t.Skip("only root gives files away")
			}
			if err := c.change(folder, file); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{file, link} {
				err := checkPrivate(path)
				if c.want == mine && err != nil || c.want != mine && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("%s: got %v, want %q", path, err, c.want)
				}
			}
		})
	}
}

func chmods(folderMode os.FileMode, folder string, fileMode os.FileMode, file string) error {
	if err := os.Chmod(folder, folderMode); err != nil {
		return err
	}
	return os.Chmod(file, fileMode)
}

// Programs that others could have put there are not loaded, which one sentence says.
func TestProgramsOfOthersAreNotLoaded(t *testing.T) {
	o := Options{Cache: t.TempDir()}
	good := doWalk(t, o, walk(0.1))
	path := only(t, o.Cache)

	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	anew := doWalk(t, o, walk(0.1))
	if want := "compiling anew: " + path + " can be written by other users"; anew.program.FromCache || !strings.HasPrefix(anew.log, want) || strings.Count(anew.log, "\n") != 1 {
		t.Errorf("loaded %t, said %q, want one line with %q", anew.program.FromCache, anew.log, want)
	}
	if again := doWalk(t, o, walk(0.1)); !again.program.FromCache || again.log != "" || len(again.values) != len(good.values) {
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
	if want := o.Cache + " can be written by other users"; shared.program.FromCache || !strings.Contains(shared.log, want) || strings.Count(shared.log, "\n") != 1 {
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
		if w.program.FromCache || !strings.Contains(w.log, "compiling anew: ") || !strings.Contains(w.log, name) || strings.Count(w.log, "\n") != 1 {
			t.Errorf("%s: loaded %t, said %q", name, w.program.FromCache, w.log)
		}
	}
}
