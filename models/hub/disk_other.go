//go:build !linux && !darwin

package hub

// isFull cannot tell on this system.
func isFull(error) bool { return false }

// isReadOnly cannot tell on this system.
func isReadOnly(error) bool { return false }
