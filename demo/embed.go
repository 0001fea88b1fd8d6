package demo

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"limner/internal/disk"
)

// base is the shipped model, in diffusers' layout. `limner base` made it; its training.json says how.
//
//go:embed base
var base embed.FS

// UnpackBase writes the shipped base model to dir, completely or not at all. A model that is already there is left
// unchanged.
func UnpackBase(dir string) error {
	index := filepath.Join(dir, "model_index.json")
	if _, err := os.Stat(index); err == nil {
		return nil
	}
	shipped, err := fs.Sub(base, "base")
	if err == nil {
		err = disk.PublishFolder(dir, func(aside string) error { return os.CopyFS(aside, shipped) })
	}
	if err != nil {
		return fmt.Errorf("unpack the base model: %w", err)
	}
	return nil
}
