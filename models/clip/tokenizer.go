package clip

import (
	"strings"
	"unicode"
)

// wordEnd marks the last piece of a word in the vocabulary.
const wordEnd = "</w>"

// Tokenizer turns prompts into token ids as CLIP does: byte-level BPE over lower-case words. It
// agrees with transformers 5's CLIPTokenizer: text is composed (NFC), runs of white space become one
// space, case is folded rune by rune; nothing is repaired (no ftfy) and no HTML entity is resolved.
// What is a letter is decided by Go's tables: scripts that Unicode added after version 15 are signs.
// It may be used by several goroutines at once.
type Tokenizer struct {
	ids       map[string]int32
	tokens    map[int32]string
	merges    map[pair]merge
	rules     [][2]string // the merges in order of rank, as merges.txt lists them
	special   specialTokens
	maxLength int
}

// specialTokens are the tokens that BPE does not produce. added has each once, with its id. vectors has the ids of all
// vectors of a textual inversion, its own first.
type specialTokens struct {
	bos, eos, unk, pad int32
	added              []addedToken
	vectors            map[int32][]int32
}

// addedToken is split off before BPE: before normalization of the text or, if normalized, after it.
type addedToken struct {
	match      string // what to look for: the token or, if normalized, its normal form
	id         int32
	normalized bool
}

func newAddedToken(content string, id int32, normalized bool) addedToken {
	if normalized {
		content = normalize(content)
	}
	return addedToken{match: content, id: id, normalized: normalized}
}

// Encode returns the ids of a prompt without the start and end tokens, however long it is. The token of
// a textual inversion becomes the ids of all its vectors.
func (t *Tokenizer) Encode(prompt string) []int32 {
	ids := []int32{}
	t.visit(prompt, func(word string) {
		ids = t.appendWord(ids, word)
	}, func(id int32) {
		if vectors, ok := t.special.vectors[id]; ok {
			ids = append(ids, vectors...)
			return
		}
		ids = append(ids, id)
	})
	return ids
}

// visit calls word and added for the words and the added tokens of a prompt, in order.
func (t *Tokenizer) visit(prompt string, word func(string), added func(id int32)) {
	splitAdded(strings.ToValidUTF8(prompt, "\uFFFD"), t.special.added, false, func(raw string, token *addedToken) {
		if token != nil {
			added(token.id)
			return
		}
		splitAdded(normalize(raw), t.special.added, true, func(text string, token *addedToken) {
			if token != nil {
				added(token.id)
				return
			}
			eachWord(text, word)
		})
	})
}

// EncodePadded returns MaxLength ids: start token, prompt, end token, padding. A prompt that does not
// fit keeps its first MaxLength-2 ids, and truncated is true.
func (t *Tokenizer) EncodePadded(prompt string) (ids []int32, truncated bool) {
	ids = make([]int32, 0, t.maxLength)
	text := t.Encode(prompt)
	if most := t.maxLength - 2; len(text) > most {
		text, truncated = text[:most], true
	}
	ids = append(append(append(ids, t.special.bos), text...), t.special.eos)
	for len(ids) < t.maxLength {
		ids = append(ids, t.special.pad)
	}
	return ids, truncated
}

// Decode returns the text of ids: lower case, one space after each word, special tokens, textual
// inversions and unknown ids left out.
func (t *Tokenizer) Decode(ids []int32) string {
	special := map[int32]bool{}
	for _, token := range t.special.added {
		special[token.id] = true
	}
	var raw []byte
	for _, id := range ids {
		if special[id] {
			continue
		}
		for _, r := range t.tokens[id] {
			if b, ok := byteOf(r); ok {
				raw = append(raw, b)
			}
		}
	}
	text := strings.ToValidUTF8(string(raw), "\uFFFD")
	return strings.TrimFunc(strings.ReplaceAll(text, wordEnd, " "), func(r rune) bool {
		return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f // white space to Python
	})
}

// MaxLength is the number of ids that EncodePadded returns: 77 for all of CLIP's published models.
func (t *Tokenizer) MaxLength() int { return t.maxLength }

// VocabSize is the number of rows that an embedding needs: one more than the largest id.
func (t *Tokenizer) VocabSize() int {
	size := 0
	for id := range t.tokens {
		size = max(size, int(id)+1)
	}
	return size
}

// BOS is the id of the start token.
func (t *Tokenizer) BOS() int32 { return t.special.bos }

// EOS is the id of the end token. The text encoder pools at the first one.
func (t *Tokenizer) EOS() int32 { return t.special.eos }

// Pad is the padding's id.
func (t *Tokenizer) Pad() int32 { return t.special.pad }
