package pjrt

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
static void trim(void) { malloc_trim(0); }
#else
static void trim(void) {}
#endif
*/
import "C"

// Trim gives the memory that a plugin freed back to the system, as far as the C library holds on to it. A compiler leaves much of it behind.
func Trim() { C.trim() }
