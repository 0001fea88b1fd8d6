package folder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	if err := checkOwner(dir); err != nil {
		t.Fatal(err)
	}
	o := Output{Dir: dir}
	lock, err := o.Own()
	if err != nil {
		t.Fatal(err)
	}
	who := fmt.Sprintf("output folder %s is in use by process %d on ", dir, os.Getpid())
	_, err = o.Own()
	for name, err := range map[string]error{"a second owner": err, "a look": o.Check()} {
		if err == nil || !strings.Contains(err.Error(), who) ||
			!strings.Contains(err.Error(), filepath.Base(os.Args[0])) ||
			!strings.Contains(err.Error(), "--output_dir") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := o.Check(); err != nil {
		t.Errorf("after its end: %v", err)
	}
	// A kill can leave the file empty.
	if err := os.Truncate(filepath.Join(dir, lockName), 0); err != nil {
		t.Fatal(err)
	}
	if lock, err = o.Own(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, lockName), 0); err != nil {
		t.Fatal(err)
	}
	if err := checkOwner(dir); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
}

// A folder of others gets no lock, and none of the names that a kill leaves behind makes a folder one of others.
func TestContents(t *testing.T) {
	for _, c := range []struct {
		name, want string
	}{
		{"thesis.tex", "holds something else (thesis.tex)"},
		{"checkpoint-2", "holds something else (checkpoint-2)"},
		{".run.json", "holds something else (.run.json)"},
		{RunName, "holds a run already"},
		{".run.json1234567", ""},
		{lockName, ""},
		{asidePrefix + "checkpoint-2", ""},
	} {
		o := Output{Dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(o.Dir, c.name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		lock, err := o.Own()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			} else if err := lock.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if entries, err := os.ReadDir(o.Dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: the folder holds %v, %v", c.name, entries, err)
		}
	}
}

// A checkpoint to go on from is one of the output folder's, by its name or its path.
func TestResumedCheckpoint(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, Name(4)), 0o755); err != nil {
		t.Fatal(err)
	}
	for given, ok := range map[string]bool{
		"": true, "latest": true, "checkpoint-4": true, dir + "/checkpoint-4": true, dir + "/checkpoint-4/": true,
		"../../checkpoint-4": false, "checkpoint-5": false, "../x": false, "/": false, "..": false,
		"checkpoint-4/..": false,
	} {
		err := Output{Dir: dir, ResumeFromCheckpoint: given}.checkResumed()
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "there are checkpoint-4") {
			t.Errorf("%q: got %v", given, err)
		}
	}
}
