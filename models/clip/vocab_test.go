package clip

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
)

// TestGoldenStandard compares the built-in vocabulary with the folder that has it all.
func TestGoldenStandard(t *testing.T) {
	dir := golden.Path(t, "sd15-tiny", "tokenizer")
	want, err := LoadTokenizer(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Standard(PadEnd)
	if err != nil {
		t.Fatal(err)
	}
	if want.VocabSize() != got.VocabSize() {
		t.Skipf("%s has %d tokens, so not CLIP's", dir, want.VocabSize())
	}
	same(t, got, want)
	var rows struct {
		Rows []struct {
			Text string `json:"text"`
		} `json:"rows"`
	}
	golden.ReadJSON(t, &rows, "tokenizer", "sd15.json")
	for _, row := range rows.Rows {
		a, _ := got.EncodePadded(row.Text)
		if b, _ := want.EncodePadded(row.Text); !slices.Equal(a, b) {
			t.Errorf("%q:\ngot  %v\nwant %v", row.Text, a, b)
		}
	}
}

// TestGoldenStandardSave checks that a saved built-in tokenizer is the folder of the model that it is
// for: the configurations to the byte, but for a last line end, and all else when it is loaded again.
func TestGoldenStandardSave(t *testing.T) {
	for pad, model := range map[string]string{PadEnd: "sd15-tiny", PadExclamation: "sd21-tiny"} {
		t.Run(model, func(t *testing.T) {
			want, err := Standard(pad)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "tokenizer")
			if err := want.Save(dir); err != nil {
				t.Fatal(err)
			}
			got, err := LoadTokenizer(dir)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, want)
			for _, name := range []string{configFile, specialFile} {
				a, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(golden.Path(t, model, "tokenizer", name))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b)) {
					t.Errorf("%s:\ngot  %s\nwant %s", name, a, b)
				}
			}
		})
	}
}

func TestStandard(t *testing.T) {
	for pad, id := range map[string]int32{PadEnd: 49407, PadExclamation: 0} {
		tok, err := Standard(pad)
		if err != nil {
			t.Fatal(err)
		}
		ids, _ := tok.EncodePadded("A photo of a cat")
		if want := []int32{49406, 320, 1125, 539, 320, 2368, 49407, id}; len(ids) != 77 || !slices.Equal(ids[:8], want) || ids[76] != id {
			t.Errorf("padding %q: got %v, want %v and padding", pad, ids, want)
		}
		if tok.VocabSize() != 49408 || tok.Pad() != id {
			t.Errorf("padding %q: got %d tokens, padding %d", pad, tok.VocabSize(), tok.Pad())
		}
	}
	if _, err := Standard("?"); err == nil || !strings.Contains(err.Error(), `padding "?"`) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkStandard(b *testing.B) {
	for b.Loop() {
		if _, err := Standard(PadEnd); err != nil {
			b.Fatal(err)
		}
	}
}

// An editor's byte order marks and line ends are no part of a tokenizer.
func TestLoadTokenizerOfAnotherEncoding(t *testing.T) {
	from := golden.Path(t, "sd15-tiny", "tokenizer")
	want, err := LoadTokenizer(from)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, path := range golden.Glob(t, "sd15-tiny", "tokenizer", "*") {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw = append([]byte("\xef\xbb\xbf"), bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))...)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := LoadTokenizer(dir)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
}
