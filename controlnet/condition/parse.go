package condition

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"limner/internal/suggest"
)

// maxText is the longest text that is parsed, in bytes.
const maxText = 1000

// Parse reads a condition: the name of its kind, or the name and parameters, such as canny, canny(low=50, high=120) or
// canny(low=rand(50, 150), high=rand(150, 250)). Parameters that are not named have their defaults. It fails for names
// that are not known, listing those that are, and for parameters that are out of range or contradict each other.
func Parse(text string) (Spec, error) {
	if len(text) > maxText {
		return Spec{}, fmt.Errorf("condition of %d bytes: want at most %d", len(text), maxText)
	}
	name, inside, parenthesis := strings.Cut(text, "(")
	name = strings.TrimSpace(name)
	kind, err := find(name)
	if err != nil {
		return Spec{}, err
	}
	s := kind.standard()
	if !parenthesis {
		return s, nil
	}
	inside, closed := strings.CutSuffix(strings.TrimSpace(inside), ")")
	parts, err := splitParameters(inside)
	if err == nil && !closed {
		err = errors.New(`no ")" at the end`)
	}
	if err != nil {
		return Spec{}, fmt.Errorf("condition %q: %w", text, err)
	}
	var errs []error
	given := make([]bool, len(s.ranges))
	for _, part := range parts {
		if err := s.set(part, given); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 && kind.relation != nil {
		errs = append(errs, kind.relation(s))
	}
	if err := errors.Join(errs...); err != nil {
		return Spec{}, fmt.Errorf("condition %s: %w", name, err)
	}
	return s, nil
}

// find finds a kind of condition.
func find(name string) (*Kind, error) {
	var names []string
	for _, k := range Kinds() {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return nil, fmt.Errorf("unknown condition %q%s, supported: %s",
		name, suggest.Near(name, names), strings.Join(names, ", "))
}

// splitParameters splits what stands between a condition's parentheses at the commas outside of others.
func splitParameters(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var parts []string
	depth, start := 0, 0
	for i, letter := range text {
		switch letter {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				parts, start = append(parts, text[start:i]), i+1
			}
		}
		if depth < 0 || depth > 1 {
			return nil, errors.New("the parentheses do not match: write NAME(parameter=value, …)")
		}
	}
	if depth != 0 {
		return nil, errors.New("the parentheses do not match: write NAME(parameter=value, …)")
	}
	return append(parts, text[start:]), nil
}

// set sets the parameter that a text such as low=100 names, once.
func (s Spec) set(text string, given []bool) error {
	name, value, ok := strings.Cut(text, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok {
		return fmt.Errorf("got %q, want parameter=value", strings.TrimSpace(text))
	}
	i := s.kind.index(name)
	if i < 0 {
		if len(s.kind.Parameters) == 0 {
			return fmt.Errorf("got %q, but there are no parameters", name)
		}
		var names []string
		for _, p := range s.kind.Parameters {
			names = append(names, p.Name)
		}
		return fmt.Errorf("no parameter %q%s, there are: %s",
			name, suggest.Near(name, names), strings.Join(names, ", "))
	}
	if given[i] {
		return fmt.Errorf("%s is given twice", name)
	}
	given[i] = true
	r, err := s.kind.Parameters[i].parse(value)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.ranges[i] = r
	return nil
}

// parse reads a value, or a range of them.
func (p Parameter) parse(text string) (Range, error) {
	if p.Words != nil {
		i := slices.Index(p.Words, text)
		if i < 0 {
			return Range{}, fmt.Errorf("got %q, want one of %s", text, strings.Join(p.Words, ", "))
		}
		return fixed(float64(i)), nil
	}
	inside, random := strings.CutPrefix(text, "rand")
	if !random {
		v, err := p.number(text)
		return fixed(v), err
	}
	inside, opened := strings.CutPrefix(strings.TrimSpace(inside), "(")
	inside, closed := strings.CutSuffix(inside, ")")
	low, high, two := strings.Cut(inside, ",")
	if !opened || !closed || !two {
		return Range{}, fmt.Errorf("got %q, want rand(lowest, highest)", text)
	}
	var r Range
	var err error
	if r.Low, err = p.number(low); err == nil {
		r.High, err = p.number(high)
	}
	if err != nil {
		return Range{}, err
	}
	if r.Low > r.High {
		return Range{}, fmt.Errorf("got %s, want the lowest value first", text)
	}
	return r, nil
}

// number reads a number of the parameter's range.
func (p Parameter) number(text string) (float64, error) {
	text = strings.TrimSpace(text)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.ContainsAny(text, "xXpP_") || math.IsNaN(v) {
		return 0, fmt.Errorf("got %q, want a number", text)
	}
	if v < p.Least || v > p.Most {
		return 0, fmt.Errorf("got %s, want %s to %s", text, p.text(p.Least), p.text(p.Most))
	}
	if p.Whole && v != math.Trunc(v) {
		return 0, fmt.Errorf("got %s, want a whole number", text)
	}
	return v + 0, nil // not -0, whose text would be another
}
