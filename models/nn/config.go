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

	"limner/internal/plaintext"
)

// Fixed names the config fields of which only some values are supported, as JSON texts.
type Fixed map[string][]string

// DecodeConfig decodes a config.json into the struct v points to, whose fields carry JSON tags. Every other field of
// the file must stand in fixed with one of its values, be named in ignored, be null, or begin with an underscore; the
// error names each field that does not, with its value and what is supported.
func DecodeConfig(raw []byte, v any, fixed Fixed, ignored ...string) error {
	known := slices.Clone(ignored)
	for _, field := range reflect.VisibleFields(reflect.TypeOf(v).Elem()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		known = append(known, name)
	}
	var fields map[string]json.RawMessage
	if err := plaintext.JSON(raw, &fields); err != nil {
		return err
	}
	if fields == nil {
		return errors.New("got null, want an object")
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
			bad = append(bad, fmt.Errorf("field %s: got %s, supported: %s",
				name, &compact, strings.Join(allowed, ", ")))
		}
	}
	if len(bad) > 0 {
		sort.Slice(bad, func(i, j int) bool { return bad[i].Error() < bad[j].Error() })
		return errors.Join(bad...)
	}
	return plaintext.JSON(raw, v)
}

// The limits of a config: above every published model, and small enough that a network of that size is described,
// compared with its file and refused in seconds. A damaged or hostile file must not make the program ask for all
// memory.
const (
	MostChannels = 1 << 16 // the width of anything
	MostLayers   = 1 << 12 // of a network, its transformers' included
	MostLevels   = 12      // each but the last halves height and width
)

// PyTorchClass is the class of diffusers or transformers that reads a config in PyTorch: of a class for Flax its twin,
// whose fields are the same.
func PyTorchClass(name string) string { return strings.TrimPrefix(name, "Flax") }

// Count is a field of a config that counts something, with its limit.
type Count struct {
	Field string
	Value int
	Most  int
}

// OutOfRange reports every count below 1 or above its most, in order.
func OutOfRange(counts ...Count) []error {
	var errs []error
	for _, c := range counts {
		if c.Value < 1 || c.Value > c.Most {
			errs = append(errs, fmt.Errorf("%s: got %d, want 1 to %d", c.Field, c.Value, c.Most))
		}
	}
	return errs
}

// CountsOutOfRange reports the first of a field's counts that is below 1 or above most.
func CountsOutOfRange(field string, values []int, most int) []error {
	for _, value := range values {
		if errs := OutOfRange(Count{Field: field, Value: value, Most: most}); errs != nil {
			return errs
		}
	}
	return nil
}

// TooManyLevels fails if a list with one entry per level is empty or longer than MostLevels.
func TooManyLevels(field string, levels int) error {
	if levels < 1 || levels > MostLevels {
		return fmt.Errorf("%s: %d entries, want 1 to %d", field, levels, MostLevels)
	}
	return nil
}
