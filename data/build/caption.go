package build

import (
	"fmt"
	"slices"
	"strings"

	"limner/data"
)

// template is a caption with columns of the row in it: texts, between which stand the names of columns.
type template struct {
	texts, names []string // texts has one more
}

// captionField is the name of the caption that a row has, in a template.
const captionField = "text"

// parseTemplate reads a text such as "a photo of {class}". {{ and }} are braces.
func parseTemplate(text string) (template, error) {
	t := template{texts: []string{""}}
	last := func(s string) { t.texts[len(t.texts)-1] += s }
	for text != "" {
		at := strings.IndexAny(text, "{}")
		if at < 0 {
			last(text)
			break
		}
		last(text[:at])
		brace, rest := text[at:at+1], text[at+1:]
		if strings.HasPrefix(rest, brace) {
			last(brace)
			text = rest[1:]
			continue
		}
		name, after, closed := strings.Cut(rest, "}")
		if brace == "}" || !closed || strings.Contains(name, "{") || strings.TrimSpace(name) == "" {
			return template{}, fmt.Errorf("%q: want the names of columns in braces, as {class}; {{ is a brace", text)
		}
		t.names, t.texts = append(t.names, strings.TrimSpace(name)), append(t.texts, "")
		text = after
	}
	return t, nil
}

// columns are the columns in the template besides the caption.
func (t template) columns() []string {
	return slices.DeleteFunc(slices.Clone(t.names), func(name string) bool { return name == captionField })
}

// needsCaption says whether the template has the caption of the row.
func (t template) needsCaption() bool { return slices.Contains(t.names, captionField) }

// fill writes the template with a row's columns and one of its captions. It fails for a column that the row lacks.
func (t template) fill(caption string, extra map[string]string) (string, error) {
	var b strings.Builder
	for i, text := range t.texts {
		b.WriteString(text)
		if i == len(t.names) {
			break
		}
		value, ok := extra[t.names[i]]
		if t.names[i] == captionField {
			value, ok = caption, true
		}
		if !ok {
			return "", fmt.Errorf("the row has no %s, which the caption names", t.names[i])
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// captions are those that a row is written with: its own or the template's, with trigger word and prefix.
func (p *preparer) captions(r data.Row) ([]string, error) {
	captions := r.Captions
	if p.Caption != "" {
		if !p.template.needsCaption() || len(captions) == 0 {
			captions = []string{""}
		}
		filled := make([]string, len(captions))
		for i, caption := range captions {
			var err error
			if filled[i], err = p.template.fill(caption, r.Extra); err != nil {
				return nil, err
			}
		}
		captions = filled
	}
	out := make([]string, len(captions))
	for i, caption := range captions {
		out[i] = p.CaptionPrefix + caption
		if p.TriggerWord != "" && !hasWord(out[i], p.TriggerWord) {
			out[i] = strings.TrimSuffix(p.TriggerWord+", "+out[i], ", ")
		}
	}
	return out, nil
}

// hasWord says whether a word, or several, stand in a text by themselves.
func hasWord(text, word string) bool {
	words := func(s string) string {
		return " " + strings.Join(strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
			return strings.ContainsRune(" \t\n,.;:!?()\"", r)
		}), " ") + " "
	}
	return strings.Contains(words(text), words(word))
}
