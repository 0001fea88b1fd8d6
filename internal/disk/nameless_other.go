//go:build !linux

package disk

import "os"

// nameless creates a file in a folder and removes its name at once.
func nameless(dir string) (*os.File, error) { return removed(dir) }
