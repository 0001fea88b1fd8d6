package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"limner/internal/disk"
	"limner/internal/plaintext"
)

// maxConfigBytes is the most of a config that is read: the largest, tokenizers', have a few megabytes.
const maxConfigBytes = 64 << 20

// ReadConfig decodes a JSON file into v. Fields that v does not have are passed over: the packages of
// the networks name those that they do not support. A field of the wrong type is named with the line
// it stands on.
func ReadConfig(path string, v any) error {
	raw, err := plaintext.ReadFile(path, maxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("load %s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("load config: %w", err)
	}
	err = json.Unmarshal(raw, v)
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("load %s: line %d: not JSON: %w", path, line(raw, syntax.Offset), err)
	case errors.As(err, &mismatch) && mismatch.Field == "":
		return fmt.Errorf("load %s: line %d: got %s, want an object", path, line(raw, mismatch.Offset), mismatch.Value)
	case errors.As(err, &mismatch):
		return fmt.Errorf("load %s: line %d: field %q: got %s, want %s",
			path, line(raw, mismatch.Offset), mismatch.Field, mismatch.Value, mismatch.Type)
	case err != nil:
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

// line is the number, from 1, of the line that byte offset is in.
func line(raw []byte, offset int64) int {
	return 1 + bytes.Count(raw[:min(max(offset-1, 0), int64(len(raw)))], []byte("\n"))
}

// WriteJSON writes v as indented JSON with a newline at the end. The file appears when it is whole
// and synced, or not at all.
func WriteJSON(path string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := disk.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
