//go:build !linux && !darwin

package xla

import "errors"

// diskSpace is not known on this system.
func diskSpace(string) (free, total int64, err error) {
	return 0, 0, errors.ErrUnsupported
}

// mayWrite cannot tell on this system and leaves it to the writing to fail.
func mayWrite(string) bool { return true }
