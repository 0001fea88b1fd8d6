//go:build !linux && !darwin

package hub

// freeSpace is not known on this system.
func freeSpace(string) (int64, bool) { return 0, false }

// isFull cannot tell on this system.
func isFull(error) bool { return false }

// isReadOnly cannot tell on this system.
func isReadOnly(error) bool { return false }
