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
	if string(bytes.TrimSpace(raw)) == "null" {
		return fmt.Errorf("load %s: got null, want an object", path)
	}
	if err := plaintext.JSON(raw, v); err != nil {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
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
