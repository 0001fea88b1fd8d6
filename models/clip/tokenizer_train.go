package clip

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"limner/internal/disk"
)

// TrainTokenizer learns a vocabulary from a corpus by byte-pair encoding in CLIP's arrangement: 256 bytes, the same at
// the end of a word, one token for each merge, the start and the end token. At each step the most frequent pair is
// merged, of equal ones the first in alphabetical order, so the same corpus gives the same tokenizer. There are fewer
// merges than asked for if the words have no more pairs. maxLength is the number of ids of an encoded prompt, 77 in
// CLIP.
func TrainTokenizer(corpus []string, merges, maxLength int) (*Tokenizer, error) {
	if merges < 0 || maxLength < 2 {
		return nil, fmt.Errorf("train tokenizer: got %d merges and length %d, want at least 0 and 2", merges, maxLength)
	}
	t := newVocabulary(maxLength)
	words := countWords(corpus)
	for range merges {
		left, right, ok := commonestPair(words)
		if !ok {
			break
		}
		t.addToken(left + right)
		if err := t.addMerge(left, right); err != nil {
			return nil, fmt.Errorf("train tokenizer: %w", err)
		}
		for i := range words {
			words[i].join(left, right)
		}
	}
	bos, eos := t.addToken(startToken), t.addToken(endToken)
	t.special = specialTokens{bos: bos, eos: eos, unk: eos, pad: eos, added: []addedToken{
		newAddedToken(startToken, bos, true),
		newAddedToken(endToken, eos, false),
	}}
	return t, nil
}

// newVocabulary is a tokenizer with CLIP's first 512 tokens: the bytes, and the same at a word's end.
func newVocabulary(maxLength int) *Tokenizer {
	t := &Tokenizer{ids: map[string]int32{}, tokens: map[int32]string{}, merges: map[pair]merge{}, maxLength: maxLength}
	_, order := byteRunes()
	for _, end := range []string{"", wordEnd} {
		for _, b := range order {
			t.addToken(string(alphabet[b]) + end)
		}
	}
	return t
}

// addToken gives a token the next id, unless it has one: two merges can make the same token.
func (t *Tokenizer) addToken(token string) int32 {
	if id, ok := t.ids[token]; ok {
		return id
	}
	id := int32(len(t.ids))
	t.ids[token], t.tokens[id] = id, token
	return id
}

// trainWord is a distinct word of a corpus, as pieces, and how often it occurs.
type trainWord struct {
	pieces []string
	count  int
}

// countWords lists the words of a corpus in alphabetical order.
func countWords(corpus []string) []trainWord {
	counts := map[string]int{}
	for _, text := range corpus {
		eachWord(normalize(strings.ToValidUTF8(text, "\uFFFD")), func(word string) { counts[word]++ })
	}
	words := make([]trainWord, 0, len(counts))
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		w := trainWord{count: counts[word]}
		for _, b := range []byte(word) {
			w.pieces = append(w.pieces, string(alphabet[b]))
		}
		w.pieces[len(w.pieces)-1] += wordEnd
		words = append(words, w)
	}
	return words
}

// commonestPair is the pair to merge next; false if every word is one piece.
func commonestPair(words []trainWord) (left, right string, ok bool) {
	counts := map[[2]string]int{}
	for _, w := range words {
		for i := range len(w.pieces) - 1 {
			counts[[2]string{w.pieces[i], w.pieces[i+1]}] += w.count
		}
	}
	var best [2]string
	for p, n := range counts {
		order := cmp.Or(cmp.Compare(counts[best], n), strings.Compare(p[0], best[0]), strings.Compare(p[1], best[1]))
		if !ok || order < 0 {
			best, ok = p, true
		}
	}
	return best[0], best[1], ok
}

// join merges a pair wherever it occurs, from the left.
func (w *trainWord) join(left, right string) {
	out := w.pieces[:0]
	for i := 0; i < len(w.pieces); i++ {
		if i+1 < len(w.pieces) && w.pieces[i] == left && w.pieces[i+1] == right {
			out = append(out, left+right)
			i++
			continue
		}
		out = append(out, w.pieces[i])
	}
	w.pieces = out
}

// Save writes the tokenizer's four files as transformers does, and makes the folder if there is none. Each file appears
// complete or not at all.
func (t *Tokenizer) Save(dir string) error {
	files, err := t.format()
	if err != nil {
		return fmt.Errorf("save tokenizer %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save tokenizer: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := disk.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return fmt.Errorf("save tokenizer %s: %w", dir, err)
		}
	}
	return nil
}

// format makes the contents of the files.
func (t *Tokenizer) format() (map[string][]byte, error) {
	var vocab, merges bytes.Buffer
	for _, id := range slices.Sorted(maps.Keys(t.tokens)) {
		if _, ok := t.special.vectors[id]; ok {
			continue // it is in the configuration
		}
		token, err := json.Marshal(t.tokens[id])
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&vocab, ",%s:%d", token, id)
	}
	merges.WriteString("#version: 0.2\n")
	for _, rule := range t.rules {
		fmt.Fprintf(&merges, "%s %s\n", rule[0], rule[1])
	}

	special, config := map[string]any{}, map[string]any{}
	for i, id := range []int32{t.special.bos, t.special.eos, t.special.unk, t.special.pad} {
		special[roles[i]], config[roles[i]] = t.formatSpecial(roles[i], id)
	}
	maps.Copy(config, map[string]any{
		"add_prefix_space": false,
		"do_lower_case":    true,
		"errors":           "replace",
		"model_max_length": t.maxLength,
		"tokenizer_class":  "CLIPTokenizer",
	})
	if len(t.special.vectors) > 0 {
		config["added_tokens_decoder"] = t.formatAdded()
	}
	files := map[string][]byte{
		vocabFile:  append(append([]byte{'{'}, bytes.TrimPrefix(vocab.Bytes(), []byte{','})...), '}'),
		mergesFile: merges.Bytes(),
	}
	for name, content := range map[string]any{specialFile: special, configFile: config} {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(content); err != nil {
			return nil, err
		}
		files[name] = b.Bytes()
	}
	return files, nil
}

// formatSpecial is a special token as special_tokens_map.json and as tokenizer_config.json have it: an
// object, except that plain padding is a string, as in Stable Diffusion's own folders. Where the end
// token pads too, these call it normalized in its other roles, which the padding overrides: see addSpecial.
func (t *Tokenizer) formatSpecial(role string, id int32) (inMap, inConfig any) {
	content := t.tokens[id]
	normalized := slices.ContainsFunc(t.special.added, func(a addedToken) bool { return a.id == id && a.normalized })
	if role == "pad_token" && !normalized {
		return content, content
	}
	normalized = normalized || id == t.special.pad
	fields := map[string]any{
		"content": content, "lstrip": false, "normalized": normalized, "rstrip": false, "single_word": false,
	}
	typed := maps.Clone(fields)
	typed["__type"] = "AddedToken"
	return fields, typed
}

// formatAdded is added_tokens_decoder, where transformers 4 keeps tokens that the vocabulary lacks. It
// also has the special tokens, since a reader takes their forms from here then.
func (t *Tokenizer) formatAdded() map[string]any {
	decoder := map[string]any{}
	for _, a := range t.special.added {
		_, inversion := t.special.vectors[a.id]
		decoder[strconv.Itoa(int(a.id))] = map[string]any{"content": t.tokens[a.id], "lstrip": false,
			"normalized": a.normalized, "rstrip": false, "single_word": false, "special": !inversion}
	}
	return decoder
}
