#include "api.h"
#include <stdlib.h>
#include <string.h>

extern void *limner_client_compile(client_compile_args *args);
extern void *limner_buffer_from_host(buffer_from_host_args *args);

const char limner_unwritten;

// A copy of the table in which clients compile through limner_client_compile and make buffers through limner_buffer_from_host, in Go.
void *intercepted_table(const void *table) {
	size_t size = *(const size_t *)table;
	char *copy = malloc(size);
	memcpy(copy, table, size);
	*(void *(**)(client_compile_args *))(copy + client_compile) = limner_client_compile;
	*(void *(**)(buffer_from_host_args *))(copy + client_buffer_from_host) = limner_buffer_from_host;
	return copy;
}
