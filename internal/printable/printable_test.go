package printable

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"a cat, 猫 🐈 é":                "a cat, 猫 🐈 é",
		"a\nlimner: done\tb\r":        `a\nlimner: done\tb\r`,
		"\x1b[2J\x07\x00\x7f":         `\u001b[2J\u0007\u0000\u007f`,
		"\u009b31m":                   `\u009b31m`,         // C1's CSI
		"\x9b31m \xff":                `\x9b31m \xff`,      // the same as a byte
		"user\u202egnp.exe":           `user\u202egnp.exe`, // turned around
		"a\u2066b\u2069\u200f":        `a\u2066b\u2069\u200f`,
		"\u2028\U000e0041":            `\u2028\U000e0041`,
		"👩‍🚀 \\n":                     "👩‍🚀 \\n", // joined letters and backslashes are text
		strings.Repeat("x", 31):       strings.Repeat("x", 30) + "… (1 more bytes)",
		strings.Repeat("x", 29) + "猫": strings.Repeat("x", 29) + "… (3 more bytes)",
	} {
		if got := Line(text, 30); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got, want := Text("a\n\tb\x1b\r\n", 30), "a\n\tb\\u001b\\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWriter(t *testing.T) {
	var b bytes.Buffer
	if n, err := fmt.Fprintf(Writer{&b}, "caption \x1b[1A%s\nnext\n", strings.Repeat("x", 5000)); n != 5018 ||
		err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if got, want := b.String(), `caption \u001b[1A`+strings.Repeat("x", LineLimit-12)+
		"… (3012 more bytes)\nnext\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a \x1b[0m\u202e\xff\n", 10)
	f.Add("猫\U000e0041", 2)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 0 {
			return
		}
		line := Line(text, limit)
		if strings.ContainsFunc(line, harmful) || !utf8.ValidString(line) {
			t.Errorf("%q: got %q", text, line)
		}
		raw, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		out := JSON(raw)
		var was, is string
		if bytes.ContainsFunc(out, harmful) || json.Unmarshal(raw, &was) != nil || json.Unmarshal(out, &is) != nil ||
			is != was {
			t.Errorf("%q: got %s", text, out)
		}
	})
}
