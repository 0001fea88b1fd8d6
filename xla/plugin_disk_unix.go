//go:build linux || darwin

package xla

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// diskSpace returns the bytes that this user may still write on dir's disk, and its size.
func diskSpace(dir string) (free, total int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(fs.Bavail) * int64(fs.Bsize), int64(fs.Blocks) * int64(fs.Bsize), nil
}

// mayWrite says whether this user may make files in dir.
func mayWrite(dir string) bool { return unix.Access(dir, unix.W_OK) == nil }
