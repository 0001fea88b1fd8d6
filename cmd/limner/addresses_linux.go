package main

/*
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

// Without addresses Go's runtime ends with a list of threads, before any of our code runs. So this runs before it.
__attribute__((constructor)) static void check_addresses(void) {
	const rlim_t least = 2l << 30; // for a few threads, too, each of which reserves much
	struct rlimit limit;
	if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= least) return;
	char text[200];
	int n = snprintf(text, sizeof text,
		"limner: this process may take only %.1f GB of address space (ulimit -v), want at least %.1f GB: "
		"run ulimit -v unlimited first\n",
		limit.rlim_cur / 1e9, least / 1e9);
	if (write(STDERR_FILENO, text, n) < 0) _exit(1);
	_exit(1);
}
*/
import "C"
