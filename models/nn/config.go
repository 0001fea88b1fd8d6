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

// Fixed names the config fields of which only some values are supported, as JSON texts. "[false, …]" is a list of any
// length of false.
type Fixed map[string][]string

// DecodeConfig decodes a config.json into the struct v points to, whose fields carry JSON tags. Every other field of
// the file must stand in fixed with one of its values, be named in ignored or by Foreign, be null, or begin with an
// underscore; the error names each field that does not, with its value and what is supported. A field of v tagged
// list:"level" may also be given as a list with the same number for each level, one tagged list:"pair" as one for
// height and width.
func DecodeConfig(raw []byte, v any, fixed Fixed, ignored ...string) error {
	var fields map[string]json.RawMessage
	if err := plaintext.JSON(raw, &fields); err != nil {
		return err
	}
	if fields == nil {
		return errors.New("got null, want an object")
	}
	known := slices.Concat(ignored, harmless)
	var errs []error
	to := reflect.ValueOf(v).Elem()
	for _, field := range reflect.VisibleFields(to.Type()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		known = append(known, name)
		value, ok := fields[name]
		if !ok || field.Anonymous {
			continue
		}
		value, err := sameNumber(value, field.Tag.Get("list"), fields)
		if err == nil {
			err = plaintext.JSON(value, to.FieldByIndex(field.Index).Addr().Interface())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("field %s: %w", name, err))
		}
	}
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
			errs = append(errs, fmt.Errorf("field %s: unknown, so it cannot be honoured (it is %s)", name, &compact))
		case !slices.ContainsFunc(allowed, func(text string) bool { return isValue(compact.String(), text) }):
			errs = append(errs, fmt.Errorf("field %s: got %s, supported: %s",
				name, &compact, strings.Join(allowed, ", ")))
		}
	}
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
	return errors.Join(errs...)
}

// isValue says whether a value without spaces is one of Fixed.
func isValue(compact, allowed string) bool {
	element, list := strings.CutSuffix(allowed, ", …]")
	if !list {
		return compact == allowed
	}
	inner, ok := strings.CutPrefix(strings.TrimSuffix(compact, "]"), "[")
	element = strings.TrimPrefix(element, "[")
	return ok && !slices.ContainsFunc(strings.Split(inner, ","), func(e string) bool { return e != element })
}

// sameNumber is the number that a list holds again and again, one for each level of the network or for height and
// width; whatever is no list stays.
func sameNumber(value json.RawMessage, kind string, fields map[string]json.RawMessage) (json.RawMessage, error) {
	var list []json.RawMessage
	if kind == "" || json.Unmarshal(value, &list) != nil || list == nil {
		return value, nil
	}
	want, of := 2, "height and width"
	if kind == "level" {
		var levels []json.RawMessage
		if _ = json.Unmarshal(fields["block_out_channels"], &levels); levels != nil {
			want, of = len(levels), "each level"
		}
	}
	other := slices.IndexFunc(list, func(e json.RawMessage) bool { return !bytes.Equal(e, list[0]) })
	if len(list) != want || other >= 0 {
		var b bytes.Buffer
		if err := json.Compact(&b, value); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("got %s, supported: one number, or the same for %s", &b, of)
	}
	return list[0], nil
}

// harmless are fields that other programs leave in configs and that no class of diffusers or transformers computes
// with: what EMAModel writes of the average, how the weights were stored, and notes.
var harmless = []string{
	"decay", "inv_gamma", "power", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup",
	"torch_dtype", "dtype", "transformers_version", "diffusers_version", "name_or_path",
	"note", "notes", "comment", "comments", "description", "title", "author", "license", "tags",
}

// Foreign lists the fields of a config that DecodeConfig passes over because no class computes with them, but for own,
// which the class has itself.
func Foreign(raw []byte, own ...string) []string {
	var fields map[string]json.RawMessage
	if plaintext.JSON(raw, &fields) != nil {
		return nil
	}
	var names []string
	for _, name := range harmless {
		if _, ok := fields[name]; ok && !slices.Contains(own, name) {
			names = append(names, name)
		}
	}
	return names
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
