// Package printable makes text from a file or a server safe to print: it cannot control a terminal, forge lines,
// reverse the order of letters, or fill the screen.
package printable

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// LineLimit is how many bytes of a line are printed by default.
const LineLimit = 2000

// Line is text on one line of at most limit bytes, plus a note of how much was cut off. Control characters, including
// line breaks, marks that change the direction of writing, and bytes that are not UTF-8 are escaped as in Go and JSON.
func Line(text string, limit int) string {
	return escaped(text, limit, func(r rune) bool { return false })
}

// Text is Line, but it keeps line breaks and tabs.
func Text(text string, limit int) string {
	return escaped(text, limit, func(r rune) bool { return r == '\n' || r == '\t' })
}

func escaped(text string, limit int, keep func(r rune) bool) string {
	text, more := Cut(text, limit)
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case keep(r) || !harmful(r):
			b.WriteString(text[:n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		text = text[n:]
	}
	if more > 0 {
		fmt.Fprintf(&b, "… (%d more bytes)", more)
	}
	return b.String()
}

// Cut returns at most limit bytes of text, without a partial character, and how many more there are.
func Cut(text string, limit int) (string, int) {
	if len(text) <= limit {
		return text, 0
	}
	n := limit
	for n > 0 && n > limit-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n], len(text) - n
}

// harmful says whether a character does more than show a glyph: control characters (C0, DEL and C1), direction marks,
// line and paragraph separators, and the tags that spell hidden text.
func harmful(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' ||
		r == '\ufeff' || r >= 0xe0000 && r <= 0xe007f
}

// JSON escapes in JSON what Line escapes. The value stays the same, since such characters occur only in strings.
func JSON(raw []byte) []byte {
	var b bytes.Buffer
	for len(raw) > 0 {
		r, n := utf8.DecodeRune(raw)
		switch {
		// Line breaks and tabs occur only between strings: within strings JSON escapes them.
		case r < ' ' || !harmful(r):
			b.Write(raw[:n])
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		raw = raw[n:]
	}
	return b.Bytes()
}

// Writer prints lines as Text does, each cut to LineLimit.
type Writer struct{ To io.Writer }

// Write prints whole lines.
func (w Writer) Write(raw []byte) (int, error) {
	lines := strings.Split(string(raw), "\n")
	for i, line := range lines {
		lines[i] = Text(line, LineLimit)
	}
	if _, err := io.WriteString(w.To, strings.Join(lines, "\n")); err != nil {
		return 0, err
	}
	return len(raw), nil
}
