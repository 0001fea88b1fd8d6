//go:build unix

package data

import (
	"fmt"
	"os"
	"syscall"
)

// stampOf gives the time when a file was written, and its identity.
func stampOf(info os.FileInfo) string {
	stamp := fmt.Sprint(info.Size(), info.ModTime().UnixNano())
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		stamp += fmt.Sprint(" ", s.Ino)
	}
	return stamp
}
