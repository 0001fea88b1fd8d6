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

// TestGoldenStandard compares the built-in vocabulary with the goldens' folders: the whole one, and those that are cut
// after some merges.
func TestGoldenStandard(t *testing.T) {
	for file, dir := range goldenTokenizers(t) {
		t.Run(file, func(t *testing.T) {
			want, err := LoadTokenizer(dir)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Standard(want.tokens[want.Pad()])
			if err != nil {
				t.Fatal(err)
			}
			if len(want.rules) == len(got.rules) {
				same(t, got, want)
			}
			if !slices.Equal(got.rules[:min(len(want.rules), len(got.rules))], want.rules) {
				t.Errorf("other merges than the %d of %s", len(want.rules), dir)
			}
			for token, id := range want.ids {
				if end := token == startToken || token == endToken; !end && got.ids[token] != id {
					t.Errorf("%q has id %d, want %d", token, got.ids[token], id)
				}
			}
			var rows struct {
				Rows []struct {
					Text string `json:"text"`
				} `json:"rows"`
			}
			golden.ReadJSON(t, &rows, "tokenizer", file)
			for _, row := range rows.Rows {
				a, b := got.Encode(row.Text), want.Encode(row.Text)
				if whole := len(want.rules) == len(got.rules); whole && !slices.Equal(a, b) ||
					got.Decode(a) != want.Decode(b) {
					t.Errorf("%q:\ngot  %v, %q\nwant %v, %q", row.Text, a, got.Decode(a), b, want.Decode(b))
				}
			}
		})
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
		if want := []int32{49406, 320, 1125, 539, 320, 2368, 49407, id}; len(ids) != 77 ||
			!slices.Equal(ids[:8], want) || ids[76] != id {
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
