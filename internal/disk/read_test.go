package disk

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenTakesRegularFilesOnly(t *testing.T) {
	dir := t.TempDir()
	file, pipe, socket := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "socket")
	if err := os.WriteFile(file, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	link := func(to string) string {
		path := filepath.Join(dir, "to-"+filepath.Base(to))
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, want := range map[string]string{
		file: "", link(file): "",
		dir: "a folder", pipe: "a pipe", link(pipe): "a pipe", "/dev/zero": "a device", link("/dev/zero"): "a device",
		socket: "socket", filepath.Join(dir, "none"): "no such file",
	} {
		got, err := ReadFile(path, 100)
		if want == "" {
			if err != nil || string(got) != "content" {
				t.Errorf("%s: got %q, %v", path, got, err)
			}
			continue
		}
		// The system itself refuses to open a socket.
		if err == nil || path != socket && !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want an error that names it and %q", path, err, want)
		}
		if strings.HasPrefix(want, "a ") && !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: %v is not ErrNotRegular", path, err)
		}
	}
}

func TestReadFileLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 10), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(path, 10); err != nil || len(got) != 10 {
		t.Errorf("got %d bytes, %v, want 10", len(got), err)
	}
	if _, err := ReadFile(path, 9); err == nil || !strings.Contains(err.Error(), "10 bytes, at most 9") {
		t.Errorf("got %v, want that 10 bytes are more than 9", err)
	}
	// What /proc holds says it is empty and is not: it is read whole, and not past the limit.
	if got, err := ReadFile("/proc/self/status", 1<<20); err == nil && len(got) == 0 {
		t.Error("nothing was read of a file that says it is empty")
	}
	if _, err := ReadFile("/proc/self/status", 20); err == nil {
		t.Error("a file that grows was read past the limit")
	}
}
