//go:build unix

package data

import (
	"fmt"
	"os"
	"syscall"
)

// stampOf says when a file was written and which one it is.
func stampOf(info os.FileInfo) string {
	stamp := fmt.Sprint(info.Size(), info.ModTime().UnixNano())
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		stamp += fmt.Sprint(" ", s.Ino)
	}
	return stamp
}
