//go:build !linux

package plugin

// HostMemory is not known on this system.
func HostMemory() (total, available int64) { return 0, 0 }
