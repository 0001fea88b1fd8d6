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

// redirected are the addresses of the tables of plugins whose blocks are kept.
var redirected sync.Map

// keepBlocks has the large blocks that a plugin takes and frees kept for its next programs: see blocks.c.
func keepBlocks(t pjrt.Table) {
	if _, done := redirected.LoadOrStore(t.Address(), true); !done {
		C.limner_keep_blocks(C.uintptr_t(t.Address()))
	}
}

// kept is how many bytes of large blocks are free and kept.
func kept() int64 { return int64(C.limner_kept()) }

// Trim gives memory that a plugin freed back to the system: what is kept, and what the C library holds on to, of which
// a compiler leaves much.
func Trim() { C.limner_trim() }
