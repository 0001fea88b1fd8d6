package clip

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// startToken and endToken are the two special tokens that CLIP's word pattern names itself.
const (
	startToken = "<|startoftext|>"
	endToken   = "<|endoftext|>"
)

// normalize composes text, makes each run of white space one space and lowers the case of each rune
// by itself, so without the special sigma at the end of a Greek word.
func normalize(text string) string {
	var b strings.Builder
	space := false
	for _, r := range norm.NFC.String(text) {
		if unicode.IsSpace(r) {
			if !space {
				b.WriteByte(' ')
			}
			space = true
			continue
		}
		space = false
		if r == 'İ' { // the one rune that becomes two
			b.WriteString("i\u0307")
			continue
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// splitAdded splits text at the added tokens of one kind, the leftmost first and of those at one place the longest. It
// visits the tokens, with their text, and the text between them.
func splitAdded(text string, added []addedToken, normalized bool, visit func(part string, token *addedToken)) {
	start := 0
	for i := 0; i < len(text); {
		var found *addedToken
		size := 0
		for k := range added {
			if a := &added[k]; a.normalized == normalized && len(a.match) > size &&
				strings.HasPrefix(text[i:], a.match) {
				found, size = a, len(a.match)
			}
		}
		if found == nil {
			i++
			continue
		}
		if start < i {
			visit(text[start:i], nil)
		}
		visit(text[i:i+size], found)
		i += size
		start = i
	}
	if start < len(text) {
		visit(text[start:], nil)
	}
}

// eachWord finds the words of normalized text by CLIP's pattern,
//
//	<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
//
// where of several alternatives the first that matches is taken. Special tokens that were not split off before are
// text: their letters are one word, the characters around them two.
func eachWord(text string, visit func(word string)) {
	for len(text) > 0 {
		size := wordSize(text)
		switch word := text[:size]; word {
		case "":
			_, width := utf8.DecodeRuneInString(text) // white space
			text = text[width:]
			continue
		case startToken, endToken:
			visit("<|")
			visit(word[2 : len(word)-2])
			visit("|>")
		default:
			visit(word)
		}
		text = text[size:]
	}
}

// wordSize is the length in bytes of the word that text starts with, 0 if it starts with white space.
func wordSize(text string) int {
	for _, whole := range []string{startToken, endToken, "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
		if strings.HasPrefix(text, whole) {
			return len(whole)
		}
	}
	first, width := utf8.DecodeRuneInString(text)
	kind := kindOf(first)
	switch kind {
	case space:
		return 0
	case number:
		return width
	}
	for i, r := range text {
		if kindOf(r) != kind {
			return i
		}
	}
	return len(text)
}

type runeKind int

const (
	sign runeKind = iota
	letter
	number
	space
)

func kindOf(r rune) runeKind {
	switch {
	case unicode.IsSpace(r):
		return space
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	}
	return sign
}
