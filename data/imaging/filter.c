// PNG's filters: what is left of each row when neighbours are taken from it, which is packed tighter.
#include "vector.h"
#include <string.h>

static inline int distance(int a, int b) { return a > b ? a - b : b - a; }

// cost is what a filtered row is judged by: the sum of its bytes as numbers from -128 to 127, without their signs.
static inline __attribute__((always_inline)) long cost(const uint8_t *row, long n) {
	long sum = 0;
	for (long x = 0; x < n;) {
		uint32_t part = 0; // of as many bytes as fit it
		long end = n - x > 1 << 16 ? x + (1 << 16) : n;
		for (; x < end; x++) part += row[x] < 128 ? row[x] : 256 - row[x];
		sum += part;
	}
	return sum;
}

vectors void limner_filter(const uint8_t *restrict from, const uint8_t *restrict above, uint8_t *restrict to, long n,
	uint8_t *restrict scratch) {
	enum { bpp = 3, filters = 5 };
	uint8_t *rows[filters];
	for (int f = 0; f < filters; f++) rows[f] = scratch + f * n;
	memcpy(rows[0], from, n);
	for (long x = 0; x < bpp; x++) { // nothing is to the left
		rows[1][x] = from[x];
		rows[2][x] = from[x] - above[x];
		rows[3][x] = from[x] - above[x] / 2;
		rows[4][x] = from[x] - above[x];
	}
	uint8_t *restrict left = rows[1], *restrict up = rows[2], *restrict mean = rows[3], *restrict paeth = rows[4];
	for (long x = bpp; x < n; x++) {
		int a = from[x - bpp], b = above[x], c = above[x - bpp];
		int to_a = distance(b, c), to_b = distance(a, c), to_c = distance(a + b, 2 * c);
		int nearest = to_b <= to_c ? b : c;
		nearest = to_a <= to_b && to_a <= to_c ? a : nearest;
		left[x] = from[x] - a;
		up[x] = from[x] - b;
		mean[x] = from[x] - (a + b) / 2;
		paeth[x] = from[x] - nearest;
	}
	int best = 0;
	long least = cost(rows[0], n);
	for (int f = 1; f < filters; f++) {
		long sum = cost(rows[f], n);
		if (sum < least) best = f, least = sum;
	}
	to[0] = best;
	memcpy(to + 1, rows[best], n);
}
