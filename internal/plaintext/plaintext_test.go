package plaintext

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecode(t *testing.T) {
	const text = "café\n𝄞 two\n"
	little := []byte("\xff\xfec\x00a\x00f\x00\xe9\x00\r\x00\n\x00\x34\xd8\x1e\xdd \x00t\x00w\x00o\x00\n\x00")
	big := []byte("\xfe\xff")
	for i := 2; i < len(little); i += 2 {
		big = append(big, little[i+1], little[i])
	}
	for name, raw := range map[string][]byte{
		"UTF-8": []byte(text), "with a mark": []byte("\xef\xbb\xbf" + text),
		"CRLF": []byte("\xef\xbb\xbfcafé\r\n𝄞 two\r\n"), "UTF-16LE": little, "UTF-16BE": big,
	} {
		if got, err := Decode(raw); err != nil || string(got) != text {
			t.Errorf("%s: %q (%v), want %q", name, got, err, text)
		}
	}
	if got, err := Decode([]byte("a\rb\r\r\n")); err != nil || string(got) != "a\rb\r\n" {
		t.Errorf("lone carriage returns: %q (%v)", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"one\ncaf\xe9":                  "line 2, byte 4: byte 0xe9 is not UTF-8",
		"\xef\xbb\xbf\x80":              "line 1, byte 1: byte 0x80",
		"a\x00b\x00":                    "line 1, byte 2: a zero byte",
		"\xff\xfea\x00b":                "odd number of bytes",
		"\xff\xfe\n\x00\x34\xd8":        "line 2, byte 1: half a character of UTF-16",
		"\xff\xfe\x1e\xdd\x34\xd8":      "line 1, byte 1: half a character",
		"\xff\xfe\x34\xd8a\x00":         "line 1, byte 1: half a character",
		"\xed\xa0\x80 a surrogate pair": "byte 0xed is not UTF-8",
	} {
		if got, err := Decode([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q (%v), want %q", raw, got, err, want)
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(path, []byte("\xef\xbb\xbfa\r\nb\xff"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path, 100); err == nil || !strings.Contains(err.Error(), path+": line 2, byte 2: byte 0xff") {
		t.Errorf("error %v", err)
	}
	if _, err := ReadFile(path, 3); err == nil || !strings.Contains(err.Error(), "at most 3") {
		t.Errorf("error %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"a\r\nb", "\xef\xbb\xbfa", "\xff\xfea\x00", "\xfe\xff\xd8\x34\xdd\x1e", "\xff\xfe\x34\xd8",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		text, err := Decode(raw)
		if err == nil && (!utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0) {
			t.Errorf("%q became %q", raw, text)
		}
	})
}
