// Package golden finds the reference data that parity tests compare with.
package golden

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Dir is the folder of goldens: LIMNER_GOLDENS where it is set, else the repo's testdata/goldens.
func Dir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("LIMNER_GOLDENS")
	if dir == "" {
		_, file, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(file), "..", "..", "testdata", "goldens")
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		t.Fatalf("no folder of goldens at %s: set LIMNER_GOLDENS", dir)
	}
	return dir
}

// Path joins parts below Dir.
func Path(t testing.TB, parts ...string) string {
	t.Helper()
	return filepath.Join(append([]string{Dir(t)}, parts...)...)
}

// ReadJSON decodes the golden at the given path below Dir into v.
func ReadJSON(t testing.TB, v any, parts ...string) {
	t.Helper()
	path := Path(t, parts...)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
