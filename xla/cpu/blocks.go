package cpu

// #include <stddef.h>
// #include <stdint.h>
// int limner_keep_blocks(uintptr_t inside);
// size_t limner_kept(void);
// void limner_trim(void);
import "C"

import (
	"sync"

	"limner/xla/pjrt"
)

// redirected holds the tables of the plugins whose blocks are kept, by address.
var redirected sync.Map

// keepBlocks makes the large blocks that a plugin allocates and frees available to its next programs: see blocks.c.
func keepBlocks(t pjrt.Table) {
	if _, done := redirected.LoadOrStore(t.Address(), true); !done {
		C.limner_keep_blocks(C.uintptr_t(t.Address()))
	}
}

// kept is the number of bytes in large blocks that were freed and are kept.
func kept() int64 { return int64(C.limner_kept()) }

// Trim returns freed memory to the system: the kept blocks, and what the C library holds, which is much after
// compiling.
func Trim() { C.limner_trim() }
