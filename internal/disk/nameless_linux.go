package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nameless creates a file without a name in a folder, so that a process that is killed leaves nothing behind.
func nameless(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_WRONLY, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		return removed(dir) // this file system has no nameless files
	}
	return f, err
}
