package checkpoint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadConfigOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte("null\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ReadConfig(path, &struct{}{}); err == nil || !strings.Contains(err.Error(), "got null, want an object") {
		t.Errorf("got %v", err)
	}
}

func TestReadConfigOfAnyEditor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	for raw, want := range map[string]string{
		"{\"n\": 3}":                                    "",
		"\xef\xbb\xbf{\r\n\"n\": 3}\r\n":                "",
		"\xff\xfe{\x00\"\x00n\x00\"\x00:\x003\x00}\x00": "",
		"{\n\"n\": 3, \"name\": \"caf\xe9\"}":           "config.json: line 2, byte 21: byte 0xe9 is not UTF-8",
		"{\"n\": \"three\"}":                            `field N: got a text`,
	} {
		if err := os.WriteFile(path, []byte(raw), 0o644); err != nil {
			t.Fatal(err)
		}
		var c struct{ N int }
		err := ReadConfig(path, &c)
		if want == "" && (err != nil || c.N != 3) ||
			want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %+v, error %v, want %q", raw, c, err, want)
		}
	}
}
