package demo

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// base is the shipped model, in diffusers' layout. `limner base` made it; its training.json says how.
//
//go:embed base
var base embed.FS

// UnpackBase writes the shipped base model to dir, whole or not at all. A model that is there already is left as it is.
func UnpackBase(dir string) error {
	index := filepath.Join(dir, "model_index.json")
	if _, err := os.Stat(index); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("unpack the base model: %w", err)
	}
	aside, err := os.MkdirTemp(filepath.Dir(dir), ".writing-base-")
	if err != nil {
		return fmt.Errorf("unpack the base model: %w", err)
	}
	defer os.RemoveAll(aside)
	shipped, err := fs.Sub(base, "base")
	if err == nil {
		err = os.CopyFS(aside, shipped)
	}
	if err := errors.Join(err, os.Chmod(aside, 0o755)); err != nil {
		return fmt.Errorf("unpack the base model: %w", err)
	}
	if err := os.Rename(aside, dir); err != nil {
		return fmt.Errorf("unpack the base model: %w", err)
	}
	return nil
}
