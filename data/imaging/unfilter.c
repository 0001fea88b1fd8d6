// What PNG's filters took from each row is added again.
#include "vector.h"
#include <string.h>

#define inlined static inline __attribute__((always_inline))

inlined int distance(int a, int b) { return a > b ? a - b : b - a; }

// unfilter_row gives a row of n bytes, by its filter and the row above; bytes of the pixel to the left lie bpp before.
inlined int unfilter_row(int filter, const uint8_t *restrict from, uint8_t *restrict to, const uint8_t *restrict above,
	long n, int bpp) {
	switch (filter) {
	case 0:
		memcpy(to, from, n);
		return 1;
	case 1: {
		uint8_t left[4] = {0};
		for (long x = 0; x < n; x += bpp)
			for (int c = 0; c < bpp; c++) to[x + c] = left[c] += from[x + c];
		return 1;
	}
	case 2:
		for (long x = 0; x < n; x++) to[x] = from[x] + above[x];
		return 1;
	case 3: {
		uint8_t left[4] = {0};
		for (long x = 0; x < n; x += bpp)
			for (int c = 0; c < bpp; c++) to[x + c] = left[c] = from[x + c] + (left[c] + above[x + c]) / 2;
		return 1;
	}
	case 4: {
		int left[4] = {0}, corner[4] = {0};
		for (long x = 0; x < n; x += bpp)
			for (int c = 0; c < bpp; c++) {
				int a = left[c], b = above[x + c], d = corner[c];
				int from_a = distance(b, d), from_b = distance(a, d), from_d = distance(a + b, 2 * d);
				int nearest = from_b <= from_d ? b : d;
				nearest = from_a <= from_b && from_a <= from_d ? a : nearest;
				to[x + c] = left[c] = (uint8_t)(from[x + c] + nearest);
				corner[c] = b;
			}
		return 1;
	}
	}
	return 0;
}

// The loops are compiled for each number of bytes of a pixel.
inlined int unfilter(const uint8_t *from, uint8_t *to, const uint8_t *above, long rows, long bytes, int bpp) {
	for (long y = 0; y < rows; y++, from += 1 + bytes, above = to, to += bytes)
		if (!unfilter_row(from[0], from + 1, to, above, bytes, bpp)) return 0;
	return 1;
}

vectors int limner_unfilter(const uint8_t *from, uint8_t *to, const uint8_t *above, long rows, long bytes, int bpp) {
	if (bpp == 1) return unfilter(from, to, above, rows, bytes, 1);
	if (bpp == 3) return unfilter(from, to, above, rows, bytes, 3);
	return unfilter(from, to, above, rows, bytes, 4);
}
