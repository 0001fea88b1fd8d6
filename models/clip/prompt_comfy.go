package clip

import "slices"

// Stand-ins for escaped parentheses while the others are searched; no rune of a prompt has these values.
const (
	escapedOpen  rune = -1
	escapedClose rune = -2
)

// parseComfy follows token_weights of ComfyUI 0.3.
func parseComfy(prompt string) ([]Segment, error) {
	text := make([]rune, 0, len(prompt))
	for _, r := range prompt {
		last := len(text) - 1
		switch {
		case r == '(' && last >= 0 && text[last] == '\\':
			text[last] = escapedOpen
		case r == ')' && last >= 0 && text[last] == '\\':
			text[last] = escapedClose
		default:
			text = append(text, r)
		}
	}
	return comfyItems(nil, text, 1, 0)
}

// comfyItems appends the segments of text, which is inside depth parentheses. As in ComfyUI, a surplus closing
// parenthesis turns the next opening one into text.
func comfyItems(out []Segment, text []rune, weight float64, depth int) ([]Segment, error) {
	if depth > maxNesting {
		return nil, nestingError()
	}
	var err error
	start, level := 0, 0
	item := func(end int) {
		if start < end && err == nil {
			out, err = comfyItem(out, text[start:end], weight, depth)
		}
		start = end
	}
	for i, r := range text {
		switch r {
		case '(':
			if level == 0 {
				item(i)
			}
			level++
		case ')':
			level--
			if level == 0 {
				item(i + 1)
			}
		}
	}
	item(len(text))
	return out, err
}

// comfyItem appends the segments of one item: plain text, or what is in a pair of parentheses.
func comfyItem(out []Segment, text []rune, weight float64, depth int) ([]Segment, error) {
	if len(text) < 2 || text[0] != '(' || text[len(text)-1] != ')' {
		return append(out, Segment{Text: comfyText(text), Weight: weight}), nil
	}
	text = text[1 : len(text)-1]
	weight *= emphasis
	for i := len(text) - 1; i > 0; i-- {
		if text[i] != ':' {
			continue
		}
		if explicit, ok := parseWeight(comfyText(text[i+1:])); ok {
			text, weight = text[:i], explicit
		}
		break
	}
	return comfyItems(out, text, weight, depth+1)
}

func comfyText(text []rune) string {
	text = slices.Clone(text)
	for i, r := range text {
		switch r {
		case escapedOpen:
			text[i] = '('
		case escapedClose:
			text[i] = ')'
		}
	}
	return string(text)
}
