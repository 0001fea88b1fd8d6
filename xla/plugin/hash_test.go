package plugin

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/internal/disk"
)

func TestKnownHash(t *testing.T) {
	path, noted := filepath.Join(t.TempDir(), "plugin.so"), filepath.Join(t.TempDir(), "stamp.json")
	check := func(want string) {
		t.Helper()
		f, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := knownHash(t.Context(), f, noted); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "one")
	check(sum([]byte("one")))
	check(sum([]byte("one")))
	write(path, "other")
	check(sum([]byte("other")))

	// What is noted is believed while the file looks the same, and nobody else can write the note.
	raw, err := os.ReadFile(noted)
	if err != nil {
		t.Fatal(err)
	}
	forged := string(bytes.ReplaceAll(raw, []byte(sum([]byte("other"))), []byte("noted")))
	write(noted, forged)
	check("noted")
	if err := os.Chmod(noted, 0o622); err != nil {
		t.Fatal(err)
	}
	check(sum([]byte("other")))
	write(noted, "{")
	check(sum([]byte("other")))

	// Another file with the same bytes, size and time is another file.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(noted, forged)
	if err := replaceFile(path, []byte("third")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	check(sum([]byte("third")))
}

// A plugin is loaded from the file that was hashed, though another lies at its path by then.
func TestDescriptorName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin.so")
	if err := os.WriteFile(path, []byte("hashed"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	name, _, err := descriptorName(f, path)
	if err != nil {
		t.Fatal(err)
	}
	if name == path {
		t.Skip("this system has no names of open files")
	}
	if err := replaceFile(path, []byte("put in its place")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "hashed" {
		t.Errorf("under %s lies %q, %v", name, got, err)
	}
	if err := disk.SameFile(f, path); err == nil ||
		!strings.Contains(err.Error(), "another file was put in its place") {
		t.Errorf("the same file: %v", err)
	}
}

// An installed plugin is not loaded with other bytes, also where it is named by its path.
func TestDamagedPluginIsNotLoaded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin.so")
	mark := fmt.Sprintf(`{"package": "own", "file": "plugin.so", "size": 5, "sha256": %q}`, sum([]byte("right")))
	for name, content := range map[string]string{markFile: mark, "plugin.so": "wrong"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Load(path)
	if err == nil ||
		!strings.Contains(err.Error(), "the plugin "+path+" is damaged or was replaced: sha256 "+sum([]byte("wrong"))+
			", want "+sum([]byte("right"))) {
		t.Errorf("got %v", err)
	}
}

func TestOnlyThePinnedCPUPluginIsKnown(t *testing.T) {
	w := Wheels()[0]
	for identity, want := range map[string]bool{
		"xla_cpu_pjrt.so " + w.PluginSHA256:       true,
		"xla_cpu_pjrt.so " + sum([]byte("other")): false,
		"libtpu.so " + Wheels()[1].PluginSHA256:   false,
		"":                                        false,
	} {
		if got := IsPinnedCPU(identity); got != want {
			t.Errorf("%q: %t, want %t", identity, got, want)
		}
	}
}
