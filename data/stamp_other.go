//go:build !unix

package data

import (
	"fmt"
	"os"
)

// stampOf says when a file was written.
func stampOf(info os.FileInfo) string { return fmt.Sprint(info.Size(), info.ModTime().UnixNano()) }
