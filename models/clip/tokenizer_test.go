package clip

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
)

// goldenTokenizers says which folder each golden was made with: its name without .json is the model,
// and a number after "sdxl" the tokenizer.
func goldenTokenizers(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(golden.Path(t, "tokenizer", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		tried := []string{
			golden.Path(t, name+"-tiny", "tokenizer"),
			golden.Path(t, strings.TrimSuffix(name, "2")+"-tiny", "tokenizer_2"),
		}
		for _, dir := range tried {
			if _, err := os.Stat(dir); err == nil {
				found[filepath.Base(file)] = dir
				break
			}
		}
		if found[filepath.Base(file)] == "" {
			t.Fatalf("%s: none of its tokenizers %v is there", file, tried)
		}
	}
	if len(found) == 0 {
		t.Fatalf("no tokenizer/*.json with a tokenizer in %s", golden.Dir(t))
	}
	return found
}

func TestGoldenTokenizer(t *testing.T) {
	for file, dir := range goldenTokenizers(t) {
		t.Run(file, func(t *testing.T) {
			var want struct {
				VocabSize int   `json:"vocab_size"`
				BOS       int32 `json:"bos"`
				EOS       int32 `json:"eos"`
				Pad       int32 `json:"pad"`
				Rows      []struct {
					Text   string  `json:"text"`
					IDs    []int32 `json:"ids"`       // from start to end, neither cut nor padded
					Padded []int32 `json:"input_ids"` // cut and padded
				} `json:"rows"`
			}
			golden.ReadJSON(t, &want, "tokenizer", file)
			tok, err := LoadTokenizer(dir)
			if err != nil {
				t.Fatal(err)
			}
			if tok.VocabSize() != want.VocabSize || tok.BOS() != want.BOS || tok.EOS() != want.EOS ||
				tok.Pad() != want.Pad {
				t.Errorf("got %d tokens, start %d, end %d, padding %d; want %d, %d, %d, %d",
					tok.VocabSize(), tok.BOS(), tok.EOS(), tok.Pad(), want.VocabSize, want.BOS, want.EOS, want.Pad)
			}
			if len(want.Rows) == 0 {
				t.Fatal("no rows")
			}
			for _, row := range want.Rows {
				padded := row.Padded
				if padded == nil {
					got := slices.Concat([]int32{tok.BOS()}, tok.Encode(row.Text), []int32{tok.EOS()})
					if !slices.Equal(got, row.IDs) {
						t.Errorf("%q:\ngot  %v\nwant %v", row.Text, got, row.IDs)
					}
					padded = slices.Clone(row.IDs)
					if len(padded) > tok.MaxLength() {
						padded = append(padded[:tok.MaxLength()-1], tok.EOS())
					}
					for len(padded) < tok.MaxLength() {
						padded = append(padded, tok.Pad())
					}
				}
				got, truncated := tok.EncodePadded(row.Text)
				if !slices.Equal(got, padded) {
					t.Errorf("%q padded:\ngot  %v\nwant %v", row.Text, got, padded)
				}
				if fits := len(tok.Encode(row.Text))+2 <= tok.MaxLength(); truncated == fits {
					t.Errorf("%q: got truncated %v", row.Text, truncated)
				}
			}
		})
	}
}

func TestGoldenTokenizerDecode(t *testing.T) {
	tok, err := LoadTokenizer(golden.Path(t, "sd15-tiny", "tokenizer"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"A  photo of a CAT!":        "a photo of a cat !",
		"café 😀 İ":                  "café 😀 i ̇",
		"a <|endoftext|> b":         "a b",
		"don't 1980's":              "don 't 1 9 8 0 's",
		"":                          "",
		"<|startoftext|>":           "",
		"\xff half a rune \xe2\x82": "� half a rune �",
	} {
		ids, _ := tok.EncodePadded(text)
		if got := tok.Decode(ids); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := tok.Decode([]int32{-1, 1 << 30, 320}); got != "a" {
		t.Errorf("unknown ids: got %q, want them left out", got)
	}
}

// tinyFiles is a tokenizer over a, b and c.
func tinyFiles() map[string]string {
	return map[string]string{
		vocabFile:   `{"a":0,"b":1,"a</w>":2,"b</w>":3,"ab</w>":4,"<|startoftext|>":5,"<|endoftext|>":6}`,
		mergesFile:  "#version: 0.2\na b</w>\n",
		configFile:  `{"model_max_length": 4}`,
		specialFile: `{}`,
	}
}

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTinyTokenizer(t *testing.T) {
	tok, err := LoadTokenizer(writeFiles(t, tinyFiles()))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]int32{
		"":                {},
		"ab":              {4},
		"AB ba":           {4, 1, 2},
		"aab":             {0, 4},
		"c":               {6}, // unknown
		"cé":              {6, 6, 6},
		"a<|endoftext|>b": {2, 6, 3},
	} {
		if got := tok.Encode(text); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]struct {
		ids       []int32
		truncated bool
	}{
		"":      {[]int32{5, 6, 6, 6}, false},
		"ab":    {[]int32{5, 4, 6, 6}, false},
		"a b":   {[]int32{5, 2, 3, 6}, false},
		"a b a": {[]int32{5, 2, 3, 6}, true},
	} {
		if got, truncated := tok.EncodePadded(text); !slices.Equal(got, want.ids) || truncated != want.truncated {
			t.Errorf("%q: got %v, %v, want %v, %v", text, got, truncated, want.ids, want.truncated)
		}
	}
}

// TestSpecialForms is what transformers 5.23.0 makes of the forms that a special token is given in:
// whether the end token is found in normalized text, so also in capitals.
func TestSpecialForms(t *testing.T) {
	const plain, object = `"<|endoftext|>"`, `{"content":"<|endoftext|>","normalized":true}`
	for _, c := range []struct {
		config, special string
		normalized      bool
	}{
		{`{}`, `{}`, false},
		{`{"eos_token":` + object + `,"unk_token":` + object + `,"pad_token":` + plain + `}`, `{}`, false},
		{`{"eos_token":` + object + `,"unk_token":` + object + `,"pad_token":` + object + `}`, `{}`, true},
		{`{"eos_token":` + plain + `,"unk_token":` + object + `,"pad_token":` + object + `}`, `{}`, true},
		{`{"eos_token":` + object + `,"unk_token":` + plain + `,"pad_token":` + object + `}`, `{}`, false},
		{`{"eos_token":` + plain + `,"unk_token":` + plain + `,"pad_token":` + object + `}`, `{}`, true},
		{
			`{"eos_token":` + object + `,"unk_token":` + object + `,"pad_token":` + object + `}`,
			`{"pad_token":` + plain + `}`, false,
		},
		{`{"eos_token":` + object + `,"unk_token":` + object + `,"pad_token":"a"}`, `{}`, true},
		{
			`{"eos_token":` + plain + `,"added_tokens_decoder":{"6":` + object + `}}`,
			`{"eos_token":` + plain + `}`, true,
		},
	} {
		files := tinyFiles()
		files[configFile], files[specialFile] = c.config, c.special
		tok, err := LoadTokenizer(writeFiles(t, files))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(tok.Encode("<|ENDOFTEXT|>")) == 1; got != c.normalized {
			t.Errorf("%s with %s: end token in capitals found: %v, want %v", c.config, c.special, got, c.normalized)
		}
	}
}

func TestLoadTokenizerRejects(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"no vocabulary":    {vocabFile, "", "vocab.json is missing"},
		"no merges":        {mergesFile, "", "merges.txt is missing"},
		"no config":        {configFile, "", "tokenizer_config.json is missing"},
		"not JSON":         {vocabFile, `{"a":`, "vocab.json: not JSON: unexpected end"},
		"empty":            {vocabFile, `{}`, "has no tokens"},
		"text as id":       {vocabFile, `{"a":"0"}`, "vocab.json"},
		"negative id":      {vocabFile, `{"a":-1}`, "has the id -1, want 0 to"},
		"id above int32":   {vocabFile, `{"a":2147483648}`, "vocab.json"},
		"shared id":        {vocabFile, `{"a":0,"b":0}`, `"a" and "b" share the id 0`},
		"no end token":     {vocabFile, `{"a":0,"b":1,"b</w>":3,"ab</w>":4,"<|startoftext|>":5}`, `eos_token "<|endoftext|>" is not in vocab.json`},
		"one token a line": {mergesFile, "a b</w>\nab\n", `line 2: got "ab"`},
		"three tokens":     {mergesFile, "#version\na b c\n", "line 2"},
		"unknown token":    {mergesFile, "a c\n", `"c" is not in the vocabulary`},
		"unknown result":   {mergesFile, "b a\n", `"ba" is not in the vocabulary`},
		"case":             {configFile, `{"do_lower_case":false}`, "do_lower_case false is not supported"},
		"too short":        {configFile, `{"model_max_length":1}`, "model_max_length: got 1"},
		"huge":             {configFile, `{"model_max_length":1e30}`, "model_max_length: got 1e+30"},
		"fraction":         {configFile, `{"model_max_length":7.5}`, "model_max_length: got 7.5"},
		"pad unknown":      {specialFile, `{"pad_token":"!"}`, `pad_token "!" is not in vocab.json`},
		"pad is a number":  {specialFile, `{"pad_token":0}`, "special_tokens_map.json: pad_token"},
		"strip":            {specialFile, `{"pad_token":{"content":"a","lstrip":true}}`, "lstrip"},
		"added over":       {configFile, `{"added_tokens_decoder":{"3":{"content":"<cat>"}}}`, `has "<cat>" as id 3, which vocab.json does not`},
		"added again":      {configFile, `{"added_tokens_decoder":{"7":{"content":"b"}}}`, `has "b" as id 7`},
		"added empty":      {configFile, `{"added_tokens_decoder":{"7":{"content":""}}}`, `has "" as id 7`},
		"added nowhere":    {configFile, `{"added_tokens_decoder":{"-7":{"content":"<cat>"}}}`, `"-7" is no id`},
	} {
		t.Run(name, func(t *testing.T) {
			files := tinyFiles()
			files[c.file] = c.text
			if c.text == "" {
				delete(files, c.file)
			}
			dir := writeFiles(t, files)
			if _, err := LoadTokenizer(dir); err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want the folder and %q", err, c.want)
			}
		})
	}
	if _, err := LoadTokenizer(filepath.Join(t.TempDir(), "gone")); err == nil ||
		!strings.Contains(err.Error(), "no folder at") {
		t.Errorf("got %v", err)
	}
}

// FuzzEncode checks that any text gives ids of the vocabulary, cut to the length exactly when it does
// not fit.
func FuzzEncode(f *testing.F) {
	tok, err := TrainTokenizer([]string{"a photo of a cat", "İstanbul 😀 it's 2024"}, 50, 16)
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		"", "a photo of a cat", "IT'S <|EndOfText|> x", "<|startoftext|>", "e\u0301 \u2028 😀", "\xff\xfe",
		strings.Repeat("ab", 300),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids, truncated := tok.EncodePadded(text)
		full := tok.Encode(text)
		if len(ids) != tok.MaxLength() || truncated != (len(full) > tok.MaxLength()-2) || ids[0] != tok.BOS() {
			t.Fatalf("got %v, truncated %v, from %v", ids, truncated, full)
		}
		for _, id := range full {
			if id < 0 || int(id) >= tok.VocabSize() {
				t.Fatalf("id %d is outside the vocabulary", id)
			}
		}
		tok.Decode(full)
	})
}

// FuzzLoad checks that no files crash the loader, nor encoding with what it accepts.
func FuzzLoad(f *testing.F) {
	tiny := tinyFiles()
	f.Add(tiny[vocabFile], tiny[mergesFile], tiny[configFile], tiny[specialFile])
	f.Add(`{"a":0,"aa":1,"<|startoftext|>":2,"<|endoftext|>":3}`, "a a\naa a",
		`{"pad_token":"a"}`, `{"bos_token":null}`)
	f.Add(`{"":0}`, "#version\n", `{"bos_token":"","eos_token":""}`, `[]`)
	f.Fuzz(func(t *testing.T, vocab, merges, config, special string) {
		tok, err := parseTokenizer(map[string][]byte{
			vocabFile: []byte(vocab), mergesFile: []byte(merges), configFile: []byte(config),
			specialFile: []byte(special),
		})
		if err != nil {
			return
		}
		for _, text := range []string{"aaa ab", vocab[:min(len(vocab), 1000)]} {
			tok.Decode(tok.Encode(text))
		}
		if tok.MaxLength() < 1000 {
			tok.EncodePadded(merges[:min(len(merges), 1000)])
		}
	})
}

var corpus = []string{
	"red circle with blue background", "pale golden rod circle with old lace background",
	"Dark-Red CIRCLE, it's 2 circles: café 😀",
}

func TestTrainTokenizer(t *testing.T) {
	tok, err := TrainTokenizer(corpus, 40, 12)
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.VocabSize(); got != 512+40+2 {
		t.Errorf("got %d tokens, want 256 bytes twice, 40 merges and 2 special tokens", got)
	}
	for token, want := range map[string]int32{
		"!": 0, "ÿ": 187, "Ā": 188, "Ń": 255, "!</w>": 256, "<|startoftext|>": 552, "<|endoftext|>": 553,
	} {
		if got, ok := tok.ids[token]; !ok || got != want {
			t.Errorf("%q: got id %d, want %d", token, got, want)
		}
	}
	if got := tok.Encode("circle"); len(got) != 1 {
		t.Errorf("the most frequent word is %v, want one token", got)
	}
	if got, want := tok.Decode(tok.Encode("a RED circlé")), "a red circlé"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	again, err := TrainTokenizer(corpus, 40, 12)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(tok.ids, again.ids) || !slices.Equal(tok.rules, again.rules) {
		t.Error("the same corpus gave another tokenizer")
	}
	if tok, err := TrainTokenizer([]string{"ab ab"}, 100, 12); err != nil || tok.VocabSize() != 512+1+2 ||
		len(tok.Encode("ab")) != 1 {
		t.Errorf("one pair: got %d tokens, %v", tok.VocabSize(), err)
	}
	for _, c := range [][2]int{{-1, 77}, {0, 1}} {
		if _, err := TrainTokenizer(corpus, c[0], c[1]); err == nil {
			t.Errorf("%v: trained", c)
		}
	}
}

func TestSaveTokenizer(t *testing.T) {
	want, err := TrainTokenizer(corpus, 80, 12)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "a", "tokenizer")
	if err := want.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := LoadTokenizer(dir)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
	for _, text := range append(corpus, "<|ENDOFTEXT|>!! <|STARTOFTEXT|>", "\x00\x01é") {
		if a, b := got.Encode(text), want.Encode(text); !slices.Equal(a, b) {
			t.Errorf("%q: got %v, want %v", text, a, b)
		}
	}
	merges, err := os.ReadFile(filepath.Join(dir, mergesFile))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(merges), "#version: 0.2\n") {
		t.Errorf("merges.txt starts with %q", merges[:20])
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 4 {
		t.Errorf("got files %v, %v", files, err)
	}
}

// same compares everything that two tokenizers are made of.
func same(t *testing.T, got, want *Tokenizer) {
	t.Helper()
	if !maps.Equal(got.ids, want.ids) || !slices.Equal(got.rules, want.rules) || got.maxLength != want.maxLength ||
		!slices.Equal(got.special.added, want.special.added) || len(got.special.vectors) != len(want.special.vectors) ||
		got.Pad() != want.Pad() || got.special.unk != want.special.unk {
		t.Errorf("got %+v, length %d; want %+v, length %d", got.special, got.maxLength, want.special, want.maxLength)
	}
}

// TestGoldenTokenizerSave checks that the golden folders survive being saved, merges and all.
func TestGoldenTokenizerSave(t *testing.T) {
	for _, dir := range goldenTokenizers(t) {
		want, err := LoadTokenizer(dir)
		if err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		if err := want.Save(out); err != nil {
			t.Fatal(err)
		}
		got, err := LoadTokenizer(out)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
		for _, name := range []string{mergesFile, vocabFile} {
			a, _ := os.ReadFile(filepath.Join(out, name))
			b, _ := os.ReadFile(filepath.Join(dir, name))
			if name == vocabFile { // the reference escapes what is not ASCII
				a, b = canonical(t, a), canonical(t, b)
			}
			if string(a) != string(b) {
				t.Errorf("%s: %s differs when saved", dir, name)
			}
		}
	}
}

func canonical(t *testing.T, raw []byte) []byte {
	t.Helper()
	var v map[string]int
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
