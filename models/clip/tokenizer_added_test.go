package clip

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// addedGolden is testdata/added_tokens.json, which says what wrote it.
func addedGolden(t *testing.T) (placeholders []Placeholder, models map[string]addedModel) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "added_tokens.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Placeholders [][2]any              `json:"placeholders"`
		Models       map[string]addedModel `json:"models"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	for _, p := range file.Placeholders {
		placeholders = append(placeholders, Placeholder{Text: p[0].(string), Vectors: int(p[1].(float64))})
	}
	return placeholders, file.Models
}

type addedModel struct {
	IDs       [][]int32 `json:"ids"`
	VocabSize int       `json:"vocab_size"`
	Rows      []struct {
		Text string  `json:"text"`
		IDs  []int32 `json:"ids"`
	} `json:"rows"`
}

// The tokenizers are the repo's own, wherever other goldens are: the ids belong to them.
func repoTokenizer(t testing.TB, dir string) *Tokenizer {
	t.Helper()
	tok, err := LoadTokenizer(filepath.Join("..", "..", "testdata", "goldens", filepath.FromSlash(dir)))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestAddTokensParity(t *testing.T) {
	placeholders, models := addedGolden(t)
	for dir, want := range models {
		t.Run(dir, func(t *testing.T) {
			base := repoTokenizer(t, dir)
			size, before := base.VocabSize(), base.Encode("<dog> easynegative")
			tok, ids, err := base.AddTokens(placeholders...)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(ids, want.IDs, slices.Equal) || tok.VocabSize() != want.VocabSize {
				t.Errorf("got ids %v of %d, want %v of %d", ids, tok.VocabSize(), want.IDs, want.VocabSize)
			}
			if base.VocabSize() != size || !slices.Equal(base.Encode("<dog> easynegative"), before) {
				t.Error("the tokenizer that it started from has changed")
			}
			saved := filepath.Join(t.TempDir(), "tokenizer")
			if err := tok.Save(saved); err != nil {
				t.Fatal(err)
			}
			loaded, err := LoadTokenizer(saved)
			if err != nil {
				t.Fatal(err)
			}
			same(t, loaded, tok)
			for _, row := range want.Rows {
				for name, tok := range map[string]*Tokenizer{"": tok, "loaded: ": loaded} {
					if got := tok.Encode(row.Text); !slices.Equal(got, row.IDs) {
						t.Errorf("%s%q:\ngot  %v\nwant %v", name, row.Text, got, row.IDs)
					}
				}
			}
		})
	}
}

func TestAddTokensTwice(t *testing.T) {
	base := repoTokenizer(t, "sd21-tiny/tokenizer")
	one, _, err := base.AddTokens(Placeholder{"<A>", 2})
	if err != nil {
		t.Fatal(err)
	}
	two, ids, err := one.AddTokens(Placeholder{"<b>", 1})
	if err != nil {
		t.Fatal(err)
	}
	first := int32(base.VocabSize())
	if got, want := two.Encode("<B> <a>"), []int32{first + 2, first, first + 1}; !slices.Equal(got, want) ||
		ids[0][0] != first+2 {
		t.Errorf("got %v and new ids %v, want %v", got, ids, want)
	}
	if got := two.Decode([]int32{first, 320}); got != base.Decode([]int32{320}) {
		t.Errorf("decoded to %q", got)
	}
	same, ids, err := two.AddTokens()
	if err != nil || len(ids) != 0 || same.VocabSize() != two.VocabSize() || len(same.Encode("<a>")) != 2 {
		t.Errorf("no placeholders: got %v, %v", ids, err)
	}
}

func TestAddTokensRejects(t *testing.T) {
	tok, _, err := repoTokenizer(t, "sd21-tiny/tokenizer").AddTokens(Placeholder{"<dog>", 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p    Placeholder
		want string
	}{
		{Placeholder{"", 1}, "it is empty"},
		{Placeholder{"a b", 1}, "white space"},
		{Placeholder{"a\u00a0b", 1}, "white space"},
		{Placeholder{"\xff", 1}, "not UTF-8"},
		{Placeholder{"<cat>", 0}, "got 0 vectors"},
		{Placeholder{"<cat>", 1 << 20}, "got 1048576 vectors"},
		{Placeholder{"in", 1}, `already has "in"`},
		{Placeholder{"<dog>", 1}, `already has "<dog>"`},
		{Placeholder{"<dog>_1", 1}, `already has "<dog>_1"`},
		{Placeholder{"<DOG>", 1}, `"<dog>" reads the same`},
		{Placeholder{"<|EndOfText|>", 1}, `"<|endoftext|>" reads the same`},
	} {
		if _, _, err := tok.AddTokens(Placeholder{"<new>", 1}, c.p); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %q", c.p, err, c.want)
		}
	}
}
