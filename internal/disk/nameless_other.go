//go:build !linux

package disk

import "os"

// nameless creates a file in a folder that has no name there for longer than it takes to remove it.
func nameless(dir string) (*os.File, error) { return removed(dir) }
