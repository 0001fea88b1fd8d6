package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"limner/data/imaging"
	"limner/internal/printable"
)

// cutter shortens what an image says of itself to what a person reads, and says where how much was left out.
type cutter struct {
	left int // values that may still be printed
}

// text is a text of an image: the value that it holds where it is a record of limner, else itself.
func (c *cutter) text(text imaging.Text) any {
	if text.Key != imaging.TextLimner {
		return c.cut(text.Value)
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader([]byte(text.Value)))
	decoder.UseNumber()
	if !json.Valid([]byte(text.Value)) || decoder.Decode(&value) != nil {
		return c.cut(text.Value)
	}
	return c.cut(value)
}

// cut is a value of JSON with short strings and numbers, and few entries in each list and object.
func (c *cutter) cut(value any) any {
	c.left--
	switch value := value.(type) {
	case string:
		return shortened(value, mostShownString)
	case json.Number:
		if len(value) > mostShownName {
			return shortened(value.String(), mostShownName)
		}
	case []any:
		n := min(len(value), mostShownEntries, max(c.left, 0))
		out := make([]any, 0, n+1)
		for _, entry := range value[:n] {
			out = append(out, c.cut(entry))
		}
		if more := len(value) - n; more > 0 {
			out = append(out, fmt.Sprintf("… (%d more entries)", more))
		}
		return out
	case map[string]any:
		n := min(len(value), 3*mostShownEntries, max(c.left, 0)) // a record has some 40 settings
		out := map[string]any{}
		for _, key := range slices.Sorted(maps.Keys(value))[:n] {
			out[shortened(key, mostShownName)] = c.cut(value[key])
		}
		if more := len(value) - n; more > 0 {
			out["…"] = fmt.Sprintf("%d more entries", more)
		}
		return out
	}
	return value
}

// shortened is a text of at most limit bytes, and how many more there are.
func shortened(text string, limit int) string {
	short, more := printable.Cut(text, limit)
	if more > 0 {
		short += fmt.Sprintf("… (%d more bytes)", more)
	}
	return short
}
