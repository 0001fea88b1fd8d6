//go:build !linux

package xla

// UseHugePages does nothing: only Linux with glibc has the setting.
func UseHugePages() {}
