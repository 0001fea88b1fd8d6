package plugin

import (
	"fmt"
	"runtime"
)

// A limit of the address space (ulimit -v) is reached without warning: XLA, the C library's threads and Go's runtime
// end the process when they get no more. So known needs are compared with what is left beforehand.
const (
	leastAddresses   = 2500 << 20 // a plugin, and a small program
	addressesPerCore = 160 << 20  // of its threads

	CompilingAddresses = 512 << 20 // the least that compiling a program needs
)

// addressSpace is how many bytes of addresses this process may take in all, and how many it may still take. Tests
// replace it.
var addressSpace = limitOfAddresses

// checkAddressLimit fails if the limit leaves no room for a plugin at all.
func checkAddressLimit() error {
	limit, _, limited := addressSpace()
	if least := int64(leastAddresses + addressesPerCore*runtime.NumCPU()); limited && limit < least {
		return fmt.Errorf(
			"this process may take only %s of address space (ulimit -v), XLA wants at least %s with %d cores: "+
				"run ulimit -v unlimited first", gigabytes(limit), gigabytes(least), runtime.NumCPU())
	}
	return nil
}

// CheckAddresses fails if fewer bytes of addresses are left. what names their use.
func CheckAddresses(what string, bytes int64) error {
	limit, left, limited := addressSpace()
	if limited && left < bytes {
		return fmt.Errorf(
			"%s wants %s of address space, %s are left of the %s that this process may take (ulimit -v): "+
				"run ulimit -v unlimited first, or use a smaller model, size or batch", what, gigabytes(bytes),
			gigabytes(max(left, 0)), gigabytes(limit))
	}
	return nil
}
