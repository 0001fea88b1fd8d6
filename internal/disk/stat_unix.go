//go:build linux || darwin

package disk

import (
	"io/fs"
	"syscall"
)

// IdentityOf is a file's inode, and when that was last changed in nanoseconds since 1970: no program can set that time
// back.
func IdentityOf(info fs.FileInfo) (inode uint64, changed int64) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return stat.Ino, changedAt(stat)
}

// ownerOf is the user that a file belongs to.
func ownerOf(info fs.FileInfo) (user int, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
