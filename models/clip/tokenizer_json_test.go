package clip

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// wholeFolder is a tokenizer's folder as transformers 5 writes it; lines says that merges are texts, as
// version 4 wrote them.
func wholeFolder(t *testing.T, tok *Tokenizer, lines bool) string {
	t.Helper()
	files, err := tok.format()
	if err != nil {
		t.Fatal(err)
	}
	var merges []any
	for _, rule := range tok.rules {
		if lines {
			merges = append(merges, rule[0]+" "+rule[1])
			continue
		}
		merges = append(merges, rule)
	}
	added := []any{}
	for _, a := range tok.special.added {
		added = append(added, map[string]any{
			"id": a.id, "content": tok.tokens[a.id], "single_word": false, "lstrip": false, "rstrip": false,
			"normalized": a.normalized, "special": tok.special.vectors[a.id] == nil,
		})
	}
	whole, err := json.Marshal(map[string]any{"version": "1.0", "added_tokens": added, "model": map[string]any{
		"type": "BPE", "unk_token": endToken, "end_of_word_suffix": wordEnd, "vocab": json.RawMessage(files[vocabFile]),
		"merges": merges}})
	if err != nil {
		t.Fatal(err)
	}
	return writeFiles(t, map[string]string{wholeFile: string(whole), configFile: `{"bos_token":"<|startoftext|>","eos_token":"<|endoftext|>",
		"unk_token":"<|endoftext|>","pad_token":"` + tok.tokens[tok.Pad()] + `","model_max_length":77,"do_lower_case":true}`})
}

func TestLoadWholeTokenizer(t *testing.T) {
	for _, dir := range []string{"sd15-tiny/tokenizer", "sd21-tiny/tokenizer"} {
		want, _, err := repoTokenizer(t, dir).AddTokens(Placeholder{"<Dog>", 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, lines := range []bool{false, true} {
			got, err := LoadTokenizer(wholeFolder(t, want, lines))
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, want)
			for _, text := range []string{"A <dog>! <|ENDOFTEXT|> <|endoftext|>", "it's 2024"} {
				if a, b := got.Encode(text), want.Encode(text); !slices.Equal(a, b) {
					t.Errorf("%s %q: got %v, want %v", dir, text, a, b)
				}
			}
		}
	}
}

func TestLoadWholeTokenizerRejects(t *testing.T) {
	const model = `"type":"BPE","end_of_word_suffix":"</w>","vocab":{"a":0,"a</w>":1,"<|startoftext|>":2,"<|endoftext|>":3}`
	for want, files := range map[string]map[string]string{
		"tokenizer_config.json is missing":         {wholeFile: `{}`},
		"tokenizer.json: not JSON: unexpected end": {wholeFile: `{`, configFile: `{}`},
		`a "WordPiece" model`:                      {wholeFile: `{"model":{"type":"WordPiece"}}`, configFile: `{}`},
		"merge 7":                                  {wholeFile: `{"model":{` + model + `,"merges":[7]}}`, configFile: `{}`},
		"merge [7]": {
			wholeFile: `{"model":{` + model + `,"merges":[[7]]}}`, configFile: `{}`,
		},
		`line 1: got "a"`: {wholeFile: `{"model":{` + model + `,"merges":[["a"]]}}`, configFile: `{}`},
		"want an object":  {wholeFile: `{"model":{` + model + `}}`, configFile: `null`},
		`has "b" as id 0`: {
			wholeFile: `{"added_tokens":[{"id":0,"content":"b"}],"model":{` + model + `}}`, configFile: `{}`,
		},
		"vocab.json is missing": {mergesFile: "", configFile: `{}`},
		"merges.txt is missing": {vocabFile: `{"a":0}`, wholeFile: `{"model":{` + model + `}}`, configFile: `{}`},
	} {
		dir := writeFiles(t, files)
		if _, err := LoadTokenizer(dir); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// FuzzLoadWhole checks that no tokenizer.json crashes the loader, nor encoding with what it accepts.
func FuzzLoadWhole(f *testing.F) {
	f.Add(`{"model":{"type":"BPE","end_of_word_suffix":"</w>","vocab":{"a":0,"a</w>":1,"aa</w>":2,"<|startoftext|>":3,"<|endoftext|>":4},"merges":[["a","a</w>"]]}}`, `{}`)
	f.Add(`{"added_tokens":[{"id":4,"content":"a_1","normalized":true}],"model":{"type":"BPE","end_of_word_suffix":"</w>","vocab":{"a":0,"<|startoftext|>":2,"<|endoftext|>":3},"merges":["a a"]}}`, `{"pad_token":"a"}`)
	f.Fuzz(func(t *testing.T, whole, config string) {
		tok, err := parseTokenizer(map[string][]byte{wholeFile: []byte(whole), configFile: []byte(config)})
		if err != nil {
			return
		}
		tok.Decode(tok.Encode(whole[:min(len(whole), 1000)]))
		if tok.MaxLength() < 1000 {
			if e, err := tok.EncodePrompt(A1111, config[:min(len(config), 1000)]); err == nil && len(e.IDs) == 0 {
				t.Fatal("no chunk")
			}
		}
	})
}
