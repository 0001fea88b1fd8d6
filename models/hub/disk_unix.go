//go:build linux || darwin

package hub

import (
	"errors"

	"golang.org/x/sys/unix"
)

// isFull says whether an error came from a full disk, or from a quota.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

func isReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }
