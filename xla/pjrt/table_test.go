package pjrt

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A library with another major version of the API is refused by its version, one without the API by what it lacks.
func TestLoadRefuses(t *testing.T) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler is here to build plugins")
	}
	const table = `struct { unsigned long size; void *extension; struct { unsigned long size; void *extension; int major, minor; } version; } api =
		{sizeof api, 0, {sizeof api.version, 0, %d, %d}};
	const void *GetPjrtApi(void) { return &api; }`
	dir := t.TempDir()
	for name, c := range map[string]struct{ source, want string }{
		"next":    {fmt.Sprintf(table, 1, 3), "it has PJRT API 1.3, limner calls version 0"},
		"same":    {fmt.Sprintf(table, 0, 3), ""},
		"nothing": {"int x;", "it is no PJRT plugin"},
	} {
		source, library := filepath.Join(dir, name+".c"), filepath.Join(dir, name+".so")
		if err := os.WriteFile(source, []byte(c.source), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(compiler, "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, err := Load(library)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
