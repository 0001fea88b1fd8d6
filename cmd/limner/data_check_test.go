package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/data/imaging"
)

// The exit code says how bad the worst finding is.
func TestDataCheckExitCodes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "circles")
	made := []string{"data", "synth", "circles", "--count", "40", "--size", "32", "--out", dir}
	if _, err, code := limner(t, "", made...); code != 0 {
		t.Fatal(err)
	}
	html := filepath.Join(t.TempDir(), "page.html")
	if out, err, code := limner(t, "", "data", "check", dir, "--html", html); code != 0 ||
		!strings.Contains(out, "nothing that has to be changed") {
		t.Errorf("circles: exit code %d, %s %s", code, out, err)
	}
	if page, err := os.ReadFile(html); err != nil || !strings.Contains(string(page), "</html>") {
		t.Errorf("page: %v", err)
	}
	if out, err, code := limner(t, "", "data", "check", dir, "--resolution", "512", "--json"); code != exitWarnings ||
		!json.Valid([]byte(out)) || !strings.Contains(err, "1 warning") {
		t.Errorf("at 512: exit code %d, %s %s", code, out, err)
	}
	clean := filepath.Join(t.TempDir(), "clean")
	if out, err, code := limner(t, "", "data", "check", dir, "--fix", clean, "--json"); code != 0 ||
		!json.Valid([]byte(out)) || !strings.Contains(err, "train: 40 rows") {
		t.Errorf("a copy: exit code %d, %s %s", code, out, err)
	}
	if out, err, code := limner(t, "", "data", "check", clean); code != 0 {
		t.Errorf("the copy: exit code %d, %s %s", code, out, err)
	}
	photos := t.TempDir()
	if err := imaging.WritePNG(filepath.Join(photos, "a.png"), imaging.NewRGB(64, 64)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{photos}, exitErrors, "no caption"},
		{[]string{photos, "--fix", filepath.Join(t.TempDir(), "a")}, 1, "no row is left"},
		{[]string{dir, "--fix", clean}, exitConfig, "holds something"},
		{[]string{t.TempDir()}, exitConfig, "holds no dataset"},
		{[]string{dir, "--train_batch_size", "0"}, exitUsage, "train_batch_size 0"},
		{nil, exitUsage, "dir"},
	} {
		out, err, code := limner(t, "", append([]string{"data", "check"}, c.args...)...)
		if code != c.code || !strings.Contains(out+err, c.says) {
			t.Errorf("%v: exit code %d, want %d: %s %s", c.args, code, c.code, out, err)
		}
	}
}
