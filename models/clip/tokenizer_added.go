package clip

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Placeholder is a token that a textual inversion adds: Text is how a prompt writes it, without white space, such as
// "<cat-toy>" or "easynegative"; Vectors is how many embeddings it stands for, at least 1.
type Placeholder struct {
	Text    string
	Vectors int
}

// AddTokens returns a tokenizer that knows placeholders too, and the ids of each one's vectors: rows to append to the
// text encoder's token embedding. The tokenizer itself is not changed.
//
// As with diffusers' load_textual_inversion, a placeholder of n vectors becomes n tokens, Text, Text_1 up to
// Text_(n-1), with ids from VocabSize on, and Text in a prompt becomes all of them. It is searched for in the
// normalized text, so in any case and inside longer words. diffusers finds only the first vector where the case
// differs; here it is always all of them.
//
// It fails if Text is empty or has white space, if the vocabulary has one of the tokens, or if another
// added token reads the same in lower case.
func (t *Tokenizer) AddTokens(placeholders ...Placeholder) (*Tokenizer, [][]int32, error) {
	out := *t
	out.ids, out.tokens = maps.Clone(t.ids), maps.Clone(t.tokens)
	out.special.added = slices.Clone(t.special.added)
	var added []string
	for id := range t.special.vectors {
		added = append(added, t.tokens[id])
	}
	matches := map[string]string{}
	for _, a := range t.special.added {
		matches[normalize(a.match)] = t.tokens[a.id]
	}
	next := t.VocabSize()
	all := make([][]int32, len(placeholders))
	for i, p := range placeholders {
		if err := p.validate(); err != nil {
			return nil, nil, fmt.Errorf("add token %q: %w", p.Text, err)
		}
		for k := range p.Vectors {
			token, id := vectorName(p.Text, k), int32(next)
			if _, ok := out.ids[token]; ok {
				return nil, nil, fmt.Errorf("add token %q: the vocabulary already has %q: choose another name",
					p.Text, token)
			}
			a := newAddedToken(token, id, true)
			if other, ok := matches[a.match]; ok {
				return nil, nil, fmt.Errorf("add token %q: %q reads the same: choose another name", p.Text, other)
			}
			matches[a.match] = token
			out.ids[token], out.tokens[id] = id, token
			out.special.added = append(out.special.added, a)
			added, all[i] = append(added, token), append(all[i], id)
			next++
		}
	}
	out.setVectors(added)
	return &out, all, nil
}

// validate fails for a text that is empty, not UTF-8 or has white space.
func (p Placeholder) validate() error {
	switch {
	case p.Text == "":
		return fmt.Errorf("it is empty")
	case !utf8.ValidString(p.Text):
		return fmt.Errorf("it is not UTF-8")
	case strings.ContainsFunc(p.Text, unicode.IsSpace):
		return fmt.Errorf("it has white space")
	case p.Vectors < 1 || p.Vectors > 1<<16:
		return fmt.Errorf("got %d vectors, want 1 to %d", p.Vectors, 1<<16)
	}
	return nil
}

// vectorName is the token of a placeholder's vector k.
func vectorName(text string, k int) string {
	if k == 0 {
		return text
	}
	return text + "_" + strconv.Itoa(k)
}

// setVectors finds the tokens of each textual inversion by their names, as diffusers does.
func (t *Tokenizer) setVectors(inversions []string) {
	t.special.vectors = make(map[int32][]int32, len(inversions))
	known := make(map[string]bool, len(inversions))
	for _, token := range inversions {
		known[token] = true
	}
	for _, token := range inversions {
		ids := []int32{}
		for k := 0; known[vectorName(token, k)]; k++ {
			ids = append(ids, t.ids[vectorName(token, k)])
		}
		t.special.vectors[t.ids[token]] = ids
	}
}
