//go:build linux || darwin

package disk

import "golang.org/x/sys/unix"

// Free is how many bytes this user may still write on dir's disk.
func Free(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}
