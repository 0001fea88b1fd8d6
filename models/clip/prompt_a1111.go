package clip

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// breakWord starts a new chunk; in a1111Parser it is a segment of weight breakWeight until the end.
const (
	breakWord   = "BREAK"
	breakWeight = -1
)

// a1111Parser follows parse_prompt_attention of stable-diffusion-webui 1.10. It keeps round and square
// brackets apart, so that pairs may cross, and multiplies when a bracket closes, inner ones first.
type a1111Parser struct {
	segments      []Segment
	round, square []int // where in segments the open brackets start
}

func parseA1111(prompt string) ([]Segment, error) {
	var p a1111Parser
	for len(prompt) > 0 {
		size := p.next(prompt)
		if len(p.round)+len(p.square) > maxNesting {
			return nil, nestingError()
		}
		prompt = prompt[size:]
	}
	for _, start := range p.round {
		p.multiply(start, emphasis)
	}
	for _, start := range p.square {
		p.multiply(start, 1/emphasis)
	}
	return merged(p.segments), nil
}

// next parses the piece at the start of text and returns its size in bytes.
func (p *a1111Parser) next(text string) int {
	switch text[0] {
	case '\\': // a backslash before anything else is dropped
		if len(text) > 1 && strings.IndexByte(`()[]\`, text[1]) >= 0 {
			p.text(text[1:2])
			return 2
		}
		p.text("")
		return 1
	case '(':
		p.round = append(p.round, len(p.segments))
		return 1
	case '[':
		p.square = append(p.square, len(p.segments))
		return 1
	case ')':
		if !p.close(&p.round, emphasis) {
			p.text(")")
		}
		return 1
	case ']':
		if !p.close(&p.square, 1/emphasis) {
			p.text("]")
		}
		return 1
	case ':':
		number, size := a1111Weight(text)
		if weight, ok := parseWeight(number); size > 0 && ok && p.close(&p.round, weight) {
			return size
		}
		p.text(":")
		return 1
	}
	size := strings.IndexAny(text, `\()[]:`)
	if size < 0 {
		size = len(text)
	}
	for i, part := range splitBreak(text[:size]) {
		if i > 0 {
			p.segments = append(p.segments, Segment{Text: breakWord, Weight: breakWeight})
		}
		p.text(part)
	}
	return size
}

func (p *a1111Parser) text(text string) {
	p.segments = append(p.segments, Segment{Text: text, Weight: 1})
}

// close multiplies the weights inside the last open bracket; it returns false if none is open.
func (p *a1111Parser) close(open *[]int, weight float64) bool {
	last := len(*open) - 1
	if last < 0 {
		return false
	}
	p.multiply((*open)[last], weight)
	*open = (*open)[:last]
	return true
}

func (p *a1111Parser) multiply(start int, weight float64) {
	for i := start; i < len(p.segments); i++ {
		p.segments[i].Weight *= weight
	}
}

var signedDots = regexp.MustCompile(`^[+-]?[.0-9]+`)

// a1111Weight reads a colon, a number and a closing parenthesis, and returns the number and the size of
// all; 0 if text does not start so.
func a1111Weight(text string) (number string, size int) {
	rest := strings.TrimLeftFunc(text[1:], pythonSpace)
	number = signedDots.FindString(rest)
	rest = strings.TrimLeftFunc(rest[len(number):], pythonSpace)
	if number == "" || !strings.HasPrefix(rest, ")") {
		return "", 0
	}
	return number, len(text) - len(rest) + 1
}

// splitBreak splits text at each BREAK that is a word, with the white space around it.
func splitBreak(text string) []string {
	var parts []string
	start := 0
	for from := 0; ; {
		at := strings.Index(text[from:], breakWord)
		if at < 0 {
			return append(parts, text[start:])
		}
		at += from
		from = at + len(breakWord)
		before, _ := utf8.DecodeLastRuneInString(text[:at])
		after, _ := utf8.DecodeRuneInString(text[from:])
		if at > 0 && wordRune(before) || from < len(text) && wordRune(after) {
			continue
		}
		// White space at the end of the last part was already skipped, so this part may be empty.
		parts = append(parts, strings.TrimRightFunc(text[start:at], pythonSpace))
		start = len(text) - len(strings.TrimLeftFunc(text[from:], pythonSpace))
		from = start
	}
}

func wordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }

// merged joins neighbours of equal weight. A break counts only if no bracket has multiplied its weight, and if no text
// of weight -1 is next to it: inside brackets BREAK is a word like any other.
func merged(segments []Segment) []Segment {
	if len(segments) == 0 {
		return []Segment{{Weight: 1}}
	}
	var out []Segment
	for i := 0; i < len(segments); {
		weight := segments[i].Weight
		var text strings.Builder
		for ; i < len(segments) && segments[i].Weight == weight; i++ {
			text.WriteString(segments[i].Text)
		}
		if weight == breakWeight && text.String() == breakWord {
			out = append(out, Segment{Weight: 1, Break: true})
			continue
		}
		out = append(out, Segment{Text: text.String(), Weight: weight})
	}
	return out
}
