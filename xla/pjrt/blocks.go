package pjrt

// #include <stddef.h>
// size_t limner_kept(void);
// void limner_trim(void);
import "C"

// Kept is how many bytes of large blocks, freed by a plugin, are kept for a program's next run: see blocks.c.
func Kept() int64 { return int64(C.limner_kept()) }

// Trim gives memory that a plugin freed back to the system: what is kept, and what the C library holds on to, of which a compiler leaves much.
func Trim() { C.limner_trim() }
