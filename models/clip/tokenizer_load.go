package clip

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"limner/internal/plaintext"
)

// The files of a tokenizer's folder.
const (
	vocabFile   = "vocab.json"
	mergesFile  = "merges.txt"
	configFile  = "tokenizer_config.json"
	specialFile = "special_tokens_map.json"
)

// defaultMaxLength is the length of CLIP's position embedding, for folders without model_max_length.
const defaultMaxLength = 77

// maxFileBytes is the largest tokenizer file that is read: a hundred times CLIP's.
const maxFileBytes = 256 << 20

// roles lists the special tokens' fields in the order in which the reference adds them.
var roles = []string{"bos_token", "eos_token", "unk_token", "pad_token"}

// LoadTokenizer reads a tokenizer folder: vocab.json, merges.txt, tokenizer_config.json and, where
// there is one, special_tokens_map.json, whose tokens take precedence. Where there is no vocab.json it
// reads tokenizer.json in place of it and merges.txt.
func LoadTokenizer(dir string) (*Tokenizer, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("load tokenizer: no folder at %s", dir)
	}
	files := map[string][]byte{}
	for _, name := range []string{vocabFile, mergesFile, wholeFile, configFile, specialFile} {
		raw, err := plaintext.ReadFile(filepath.Join(dir, name), maxFileBytes)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("load tokenizer: %w", err)
		}
		files[name] = raw
	}
	t, err := parseTokenizer(files)
	if err != nil {
		return nil, fmt.Errorf("load tokenizer %s: %w", dir, err)
	}
	return t, nil
}

// parseTokenizer builds a tokenizer from the contents of its files.
func parseTokenizer(files map[string][]byte) (*Tokenizer, error) {
	required := []string{vocabFile, mergesFile, configFile}
	if _, ok := files[vocabFile]; !ok && files[wholeFile] != nil {
		required = []string{configFile}
	}
	for _, name := range required {
		if _, ok := files[name]; !ok {
			return nil, fmt.Errorf("%s is missing: a CLIP tokenizer has %s, %s and %s, or %s for the first two",
				name, vocabFile, mergesFile, configFile, wholeFile)
		}
	}
	if len(required) == 1 {
		var err error
		if files, err = splitWhole(files); err != nil {
			return nil, err
		}
	}
	t := &Tokenizer{}
	if err := t.parseVocab(files[vocabFile]); err != nil {
		return nil, fmt.Errorf("%s: %w", vocabFile, err)
	}
	if err := t.parseMerges(string(files[mergesFile]), nil); err != nil {
		return nil, fmt.Errorf("%s: %w", mergesFile, err)
	}
	if err := t.parseConfig(files[configFile], files[specialFile]); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tokenizer) parseVocab(raw []byte) error {
	if err := plaintext.JSON(raw, &t.ids); err != nil {
		return err
	}
	if len(t.ids) == 0 {
		return errors.New("has no tokens")
	}
	t.tokens = make(map[int32]string, len(t.ids))
	for token, id := range t.ids {
		if id < 0 || id >= mostTokens {
			return fmt.Errorf("token %.80q has the id %d, want 0 to %d", token, id, mostTokens-1)
		}
		if other, ok := t.tokens[id]; ok {
			return fmt.Errorf("tokens %q and %q share the id %d", min(token, other), max(token, other), id)
		}
		t.tokens[id] = token
	}
	return nil
}

// parseMerges reads lines of two tokens, after a first line "#version: 0.2" where there is one. before, if not nil, is
// called with each pair before it is looked up in the vocabulary.
func (t *Tokenizer) parseMerges(text string, before func(left, right string)) error {
	lines := strings.Count(text, "\n") + 1
	t.merges, t.rules = make(map[pair]merge, lines), make([][2]string, 0, lines)
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || number == 1 && strings.HasPrefix(line, "#version") {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return fmt.Errorf("line %d: got %q, want two tokens and a space between them", number, line)
		}
		if before != nil {
			before(left, right)
		}
		if err := t.addMerge(left, right); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

// addMerge gives the next rank to a pair.
func (t *Tokenizer) addMerge(left, right string) error {
	var found [3]int32
	for i, token := range []string{left, right, left + right} {
		id, ok := t.ids[token]
		if !ok {
			return fmt.Errorf("merge of %q and %q: %q is not in the vocabulary", left, right, token)
		}
		found[i] = id
	}
	t.merges[pair{found[0], found[1]}] = merge{rank: len(t.rules), id: found[2]}
	t.rules = append(t.rules, [2]string{left, right})
	return nil
}

// tokenField is a special token in a configuration: its text, or an object that holds it.
type tokenField struct {
	Content    string `json:"content"`
	Normalized bool   `json:"normalized"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
}

// UnmarshalJSON accepts both forms.
func (f *tokenField) UnmarshalJSON(raw []byte) error {
	if bytes.HasPrefix(raw, []byte(`"`)) {
		return json.Unmarshal(raw, &f.Content)
	}
	type object tokenField
	return json.Unmarshal(raw, (*object)(f))
}

// parseConfig reads the special tokens and the length. special may be nil.
func (t *Tokenizer) parseConfig(config, special []byte) error {
	var c struct {
		MaxLength   *float64              `json:"model_max_length"`
		DoLowerCase *bool                 `json:"do_lower_case"`
		AddedTokens map[string]tokenField `json:"added_tokens_decoder"`
	}
	if err := plaintext.JSON(config, &c); err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	if c.DoLowerCase != nil && !*c.DoLowerCase {
		return fmt.Errorf("%s: do_lower_case false is not supported", configFile)
	}
	t.maxLength = defaultMaxLength
	if c.MaxLength != nil {
		if n := *c.MaxLength; n < 2 || n > mostPositions || n != math.Trunc(n) {
			return fmt.Errorf("%s: model_max_length: got %v, want a whole number from 2 to %d",
				configFile, n, mostPositions)
		}
		t.maxLength = int(*c.MaxLength)
	}

	fields := map[string]tokenField{}
	if err := readRoles(config, fields); err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	if special != nil && len(c.AddedTokens) == 0 {
		if err := readRoles(special, fields); err != nil {
			return fmt.Errorf("%s: %w", specialFile, err)
		}
	}
	return t.addSpecial(fields, c.AddedTokens)
}

// readRoles puts the special tokens that a file names into fields.
func readRoles(raw []byte, fields map[string]tokenField) error {
	var all map[string]json.RawMessage
	if err := plaintext.JSON(raw, &all); err != nil {
		return err
	}
	if all == nil {
		return errors.New("got null, want an object")
	}
	for _, role := range roles {
		value, ok := all[role]
		if !ok || string(value) == "null" {
			continue
		}
		var f tokenField
		if err := plaintext.JSON(value, &f); err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
		fields[role] = f
	}
	return nil
}

// addSpecial adds the tokens of the roles and of added_tokens_decoder, by id. Those of the latter beyond the vocabulary
// belong to textual inversions. If roles that share a text differ in form, the form whose first use comes last decides,
// as in the reference: SD 1.5's end token is normalized as eos_token and plain as pad_token, so it is plain.
func (t *Tokenizer) addSpecial(fields map[string]tokenField, decoder map[string]tokenField) error {
	byContent := map[string]tokenField{}
	var inversions []string
	for key, f := range decoder {
		number, err := strconv.ParseInt(key, 10, 32)
		if err != nil || number < 0 || number >= mostTokens {
			return fmt.Errorf("%s: added_tokens_decoder: %.80q is no id, want 0 to %d", configFile, key, mostTokens-1)
		}
		id := int32(number)
		token, taken := t.tokens[id]
		if _, known := t.ids[f.Content]; !taken && !known && f.Content != "" {
			t.ids[f.Content], t.tokens[id] = id, f.Content
			inversions = append(inversions, f.Content)
		} else if token != f.Content || f.Content == "" {
			return fmt.Errorf("%s: added_tokens_decoder has %q as id %s, which %s does not",
				configFile, f.Content, key, vocabFile)
		}
		byContent[f.Content] = f
	}
	seen := map[tokenField]bool{}
	for i, to := range []*int32{&t.special.bos, &t.special.eos, &t.special.unk, &t.special.pad} {
		f, ok := fields[roles[i]]
		if !ok {
			f.Content = endToken
			if i == 0 {
				f.Content = startToken
			}
		}
		id, ok := t.ids[f.Content]
		if !ok || f.Content == "" {
			return fmt.Errorf("%s %q is not in %s", roles[i], f.Content, vocabFile)
		}
		*to = id
		if _, ok := decoder[strconv.Itoa(int(id))]; !ok && !seen[f] {
			seen[f] = true
			byContent[f.Content] = f
		}
	}
	for content, f := range byContent {
		if f.SingleWord || f.LStrip || f.RStrip {
			return fmt.Errorf("special token %q: single_word, lstrip and rstrip are not supported", content)
		}
		t.special.added = append(t.special.added, newAddedToken(content, t.ids[content], f.Normalized))
	}
	slices.SortFunc(t.special.added, func(a, b addedToken) int { return cmp.Compare(a.id, b.id) })
	t.setVectors(inversions)
	return nil
}
