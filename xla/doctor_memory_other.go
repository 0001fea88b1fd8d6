//go:build !linux

package xla

// hostMemory is not known on this system.
func hostMemory() (total, available int64) { return 0, 0 }
