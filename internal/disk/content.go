package disk

import (
	"io/fs"
	"os"
	"slices"
)

// Content is what a folder holds, sorted by name, for those who would not write into a folder of others: without
// lost+found, which an empty disk has.
func Content(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.IsDir() && e.Name() == "lost+found" }), err
}
