#include "api.h"
#include <stdlib.h>
#include <string.h>

extern void *limner_client_compile(client_compile_args *args);

// A copy of the table in which clients compile through limner_client_compile, in Go.
void *intercepted_table(const void *table) {
	size_t size = *(const size_t *)table;
	char *copy = malloc(size);
	memcpy(copy, table, size);
	*(void *(**)(client_compile_args *))(copy + client_compile) = limner_client_compile;
	return copy;
}
