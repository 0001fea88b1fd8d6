package xla

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// populate has the system find the memory of a new array at once. Otherwise it interrupts whoever writes the array at
// each page, which costs a third more while stores past the caches are on their way.
func populate(memory []byte) {
	page := os.Getpagesize()
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(memory)))) & (page - 1)
	if n := (len(memory) - skip) &^ (page - 1); n > 0 {
		// Linux before 5.14 refuses, and finds the memory as it is written.
		_ = unix.Madvise(memory[skip:skip+n], unix.MADV_POPULATE_WRITE)
	}
}
