//go:build !unix

package data

import (
	"fmt"
	"os"
)

// stampOf gives a file's size and the time when it was written.
func stampOf(info os.FileInfo) string { return fmt.Sprint(info.Size(), info.ModTime().UnixNano()) }
