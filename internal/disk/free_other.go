//go:build !linux && !darwin

package disk

import "errors"

// Free is not known on this system.
func Free(string) (int64, error) { return 0, errors.ErrUnsupported }

// Space is not known on this system.
func Space(string) (free, total int64, err error) { return 0, 0, errors.ErrUnsupported }

// Permitted is not known on this system: writing fails instead.
func Permitted(string) bool { return true }
