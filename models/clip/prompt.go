package clip

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Style is a prompt syntax: what brackets in a prompt mean.
type Style string

const (
	// Plain takes all of a prompt as text, as diffusers does.
	Plain Style = "plain"
	// A1111 is AUTOMATIC1111's syntax: (x) is ×1.1, [x] is ÷1.1, (x:1.3) is ×1.3, and nested weights multiply. A
	// bracket that is not closed extends to the end. \( \) \[ \] and \\ are the characters themselves. BREAK as a word
	// of its own starts a new chunk.
	A1111 Style = "a1111"
	// Comfy is ComfyUI's syntax: (x) is ×1.1 and nested weights multiply, but (x:1.3) is 1.3 whatever surrounds it.
	// Square brackets and BREAK are text; \( and \) are the characters themselves.
	Comfy Style = "comfy"
)

// Styles lists all styles, the default first.
func Styles() []Style { return []Style{Plain, A1111, Comfy} }

// ParseStyle finds a style by its name; the empty name is Plain. It fails for any other.
func ParseStyle(name string) (Style, error) {
	if name == "" {
		return Plain, nil
	}
	return Style(name), Style(name).check()
}

// check fails for an unknown style.
func (s Style) check() error {
	if !slices.Contains(Styles(), s) {
		return fmt.Errorf("prompt style %q: want plain, a1111 or comfy", string(s))
	}
	return nil
}

// Segment is a part of a prompt whose tokens have one weight. Weight is finite, 1 without emphasis, and may be 0 or
// negative. Break marks a place where A1111 starts a new chunk; its Text is empty.
type Segment struct {
	Text   string
	Weight float64
	Break  bool
}

const (
	emphasis   = 1.1 // of a pair of parentheses
	maxNesting = 500 // open brackets: the cost of each grows with the text inside it
)

// ParsePrompt splits a prompt into segments, in order. An empty prompt gives at most one empty segment. It fails for an
// unknown style, for brackets nested more than 500 deep, and for a weight that nesting makes too large for float32.
// After a colon anything but a finite number is text.
func ParsePrompt(style Style, prompt string) ([]Segment, error) {
	var segments []Segment
	var err error
	switch style {
	case Plain:
		return []Segment{{Text: prompt, Weight: 1}}, nil
	case A1111:
		segments, err = parseA1111(prompt)
	case Comfy:
		segments, err = parseComfy(prompt)
	default:
		err = style.check()
	}
	if err != nil {
		return nil, err
	}
	for _, s := range segments {
		if math.Abs(s.Weight) > math.MaxFloat32 {
			return nil, fmt.Errorf("prompt: the weight %g of %q is too large", s.Weight, s.Text)
		}
	}
	return segments, nil
}

func nestingError() error {
	return fmt.Errorf("prompt: more than %d brackets inside one another: write \\( for one that is text", maxNesting)
}

var decimal = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// parseWeight reads a finite decimal number, with white space around it.
func parseWeight(text string) (float64, bool) {
	text = strings.TrimFunc(text, pythonSpace)
	if !decimal.MatchString(text) {
		return 0, false
	}
	weight, err := strconv.ParseFloat(text, 64)
	return weight, err == nil
}

// pythonSpace reports what Python counts as white space: four control characters more than Go.
func pythonSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
