package plaintext

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// JSON decodes a file's JSON into what v points to. Errors are in JSON's terms: the line, if there are several, the
// field, the value found and the one wanted. It fails for bytes that are not UTF-8, which encoding/json would replace.
func JSON(raw []byte, v any) error {
	if err := check(raw); err != nil {
		return err
	}
	err := json.Unmarshal(raw, v)
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		// encoding/json names only the first byte of a character of several bytes.
		if at := syntax.Offset - 1; at >= 0 && at < int64(len(raw)) && raw[at] >= utf8.RuneSelf {
			r, _ := utf8.DecodeRune(raw[at:])
			return fmt.Errorf("%snot JSON: %q stands where no such character may", line(raw, syntax.Offset), r)
		}
		return fmt.Errorf("%snot JSON: %w", line(raw, syntax.Offset), err)
	case errors.As(err, &mismatch):
		field := ""
		if mismatch.Field != "" {
			// The path before the last name has names of Go's fields, too.
			field = "field " + mismatch.Field[strings.LastIndexByte(mismatch.Field, '.')+1:] + ": "
		}
		return fmt.Errorf("%s%sgot %s, want %s",
			line(raw, mismatch.Offset), field, gotWords(mismatch.Value), wantWords(mismatch.Type))
	}
	return err
}

// line names the line that contains the byte before offset, if the text has several lines.
func line(raw []byte, offset int64) string {
	if raw = bytes.TrimSpace(raw); !bytes.Contains(raw, []byte("\n")) {
		return ""
	}
	return fmt.Sprintf("line %d: ", 1+bytes.Count(raw[:min(max(offset-1, 0), int64(len(raw)))], []byte("\n")))
}

// gotWords is what encoding/json found.
func gotWords(value string) string {
	if number, ok := strings.CutPrefix(value, "number "); ok {
		return "the number " + number
	}
	switch value {
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "string":
		return "a text"
	case "number":
		return "a number"
	case "bool":
		return "true or false"
	}
	return value
}

// wantWords describes a type's values in JSON.
func wantWords(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "another kind of value"
}
