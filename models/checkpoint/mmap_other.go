//go:build !unix

package checkpoint

import "os"

// mapFile reads a file into memory, where there is no mapping.
func mapFile(path string) ([]byte, func() error, error) {
	data, err := os.ReadFile(path)
	return data, func() error { return nil }, err
}

// canDropPages says that files are read, not mapped.
const canDropPages = false

func dropPages([]byte) {}
