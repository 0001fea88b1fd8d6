package nn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// Fixed names the config fields of which only some values are supported, as JSON texts.
type Fixed map[string][]string

// DecodeConfig decodes a config.json into the struct v points to, whose fields carry JSON tags. Every other field of
// the file must stand in fixed with one of its values, be named in ignored, be null, or begin with an underscore; the error names
// each field that does not, with its value and what is supported.
func DecodeConfig(raw []byte, v any, fixed Fixed, ignored ...string) error {
	known := slices.Clone(ignored)
	for _, field := range reflect.VisibleFields(reflect.TypeOf(v).Elem()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		known = append(known, name)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	var bad []error
	for name, value := range fields {
		if strings.HasPrefix(name, "_") || slices.Contains(known, name) {
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, value); err != nil {
			return err
		}
		switch allowed, ok := fixed[name]; {
		case !ok && compact.String() == "null":
		case !ok:
			bad = append(bad, fmt.Errorf("field %s: unknown, so it cannot be honoured (it is %s)", name, &compact))
		case !slices.Contains(allowed, compact.String()):
			bad = append(bad, fmt.Errorf("field %s: got %s, supported: %s", name, &compact, strings.Join(allowed, ", ")))
		}
	}
	if len(bad) > 0 {
		sort.Slice(bad, func(i, j int) bool { return bad[i].Error() < bad[j].Error() })
		return errors.Join(bad...)
	}
	return json.Unmarshal(raw, v)
}

// Count is a field of a config that says how many of something there are.
type Count struct {
	Field string
	Value int
}

// AtLeastOne reports every count below 1, in order.
func AtLeastOne(counts ...Count) []error {
	var errs []error
	for _, c := range counts {
		if c.Value < 1 {
			errs = append(errs, fmt.Errorf("%s: got %d, want at least 1", c.Field, c.Value))
		}
	}
	return errs
}
