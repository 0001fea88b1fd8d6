// Package golden finds the reference data that parity tests compare with.
package golden

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
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

// pythonNumbers match infinity and NaN as Python writes them, which JSON does not have.
var pythonNumbers = regexp.MustCompile(`(:)\s*(-?Infinity|NaN)\b`)

// ReadJSON decodes the golden at the given path below Dir into v. Infinity and NaN, as Python writes them, are null.
func ReadJSON(t testing.TB, v any, parts ...string) {
	t.Helper()
	path := Path(t, parts...)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(pythonNumbers.ReplaceAll(raw, []byte("$1 null")), v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Tolerance is limit or, if larger, ten times the error that INDEX.md gives for what in the reference's own float32,
// relative to the largest magnitude. It is limit for what INDEX.md does not list.
func Tolerance(t testing.TB, what string, limit float64) float64 {
	t.Helper()
	raw, err := os.ReadFile(Path(t, "INDEX.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(line, "|") // "", what, absolute, relative, ""
		if len(cells) != 5 || strings.TrimSpace(cells[1]) != what {
			continue
		}
		relative, err := strconv.ParseFloat(strings.TrimSpace(cells[3]), 64)
		if err != nil {
			t.Fatalf("INDEX.md: %s: %v", what, err)
		}
		return max(limit, 10*relative)
	}
	return limit
}

// Families are the names of the model families among the goldens: each has a folder in components, and a model in
// <family>-tiny.
var Families = []string{"sd15", "sd21", "sdxl"}

// Glob lists the files below Dir that match parts, and fails if there is none.
func Glob(t testing.TB, parts ...string) []string {
	t.Helper()
	paths, err := filepath.Glob(Path(t, parts...))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files %s (%v)", Path(t, parts...), err)
	}
	return paths
}
