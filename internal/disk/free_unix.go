//go:build linux || darwin

package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Free is how many bytes this user may still write on dir's disk.
func Free(dir string) (int64, error) {
	free, _, err := Space(dir)
	return free, err
}

// Space is how many bytes this user may still write on dir's disk, and its size.
func Space(dir string) (free, total int64, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(stat.Bavail) * int64(stat.Bsize), int64(stat.Blocks) * int64(stat.Bsize), nil
}

// Permitted reports whether this user has the permission to make files in dir; [Writable] tries it.
func Permitted(dir string) bool { return unix.Access(dir, unix.W_OK) == nil }
