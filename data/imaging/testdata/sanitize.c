// Calls the loops of this package on memory of just the size that they may touch, at many sizes.
#include "../vector.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned state = 1;

static long below(long n) { // a number from 0 to n-1
	state = state * 1664525 + 1013904223;
	return (state >> 8) % n;
}

static void *memory(size_t bytes) {
	uint8_t *p = malloc(bytes ? bytes : 1);
	if (!p) exit(2);
	for (size_t i = 0; i < bytes; i++) p[i] = below(256);
	return p;
}

// resize checks both passes, with vectors and without, against each other.
static void resize(void) {
	long in = 1 + below(40), size = 1 + below(40), taps = 1 + below(in), rows = 1 + below(9);
	int32_t *first = memory(size * 4), *weights = memory(size * taps * 4);
	long each = (taps + 1) / 2 * 8; // see vector.h
	int32_t *pairs = memory(size * each * 4);
	memset(pairs, 0, size * each * 4);
	for (long i = 0; i < size; i++) {
		first[i] = below(in - taps + 1);
		for (long t = 0; t < taps; t++) {
			int32_t w = (below(1 << 22) - (1 << 20)) / taps;
			weights[i * taps + t] = w;
			for (int c = 0; c < 3; c++) pairs[i * each + t / 2 * 8 + t % 2 * 3 + c] = w;
		}
	}
	uint8_t *from = memory(in * rows * 3), *plain = memory(size * rows * 3), *wide = memory(size * rows * 3);
	resizing r = {from, plain, in * 3, size, taps, first, weights};
	limner_resize_rows(&r, rows, NULL);
	r.to = wide;
	limner_resize_rows(&r, rows, limner_resize_wide() ? pairs : NULL);
	if (memcmp(plain, wide, size * rows * 3)) {
		fprintf(stderr, "rows of %ld to %ld by %ld: vectors give other bytes\n", in, size, taps);
		exit(1);
	}
	r.stride = rows * 3; // the same memory as in rows of so many pixels
	r.to = plain;
	limner_resize_columns(&r, 0);
	r.to = wide;
	limner_resize_columns(&r, limner_resize_wide());
	if (memcmp(plain, wide, size * rows * 3)) {
		fprintf(stderr, "columns of %ld to %ld by %ld: vectors give other bytes\n", in, size, taps);
		exit(1);
	}
	free(first), free(weights), free(pairs), free(from), free(plain), free(wide);
}

static void ycc(void) {
	static const int steps[][2] = {{1, 1}, {2, 1}, {2, 2}, {1, 2}, {4, 1}, {4, 2}};
	const int *step = steps[below(6)];
	long width = 1 + below(90), height = 1 + below(9);
	long across = (width + step[0] - 1) / step[0], down = (height + step[1] - 1) / step[1];
	uint8_t *luma = memory(width * height), *blue = memory(across * down), *red = memory(across * down);
	uint8_t *to = memory(width * height * 3);
	uint16_t *scratch = memory(limner_ycc_scratch(width, step[0]));
	planes p = {luma, blue, red, width, across, width, height, step[0], step[1]};
	limner_ycc(&p, scratch, to);
	free(luma), free(blue), free(red), free(to), free(scratch);
}

static void idct(void) {
	long blocks = 1 + below(5), stride = blocks * 8 + below(9);
	int16_t *coefficients = memory(blocks * 64 * sizeof *coefficients);
	uint16_t *quantization = memory(64 * sizeof *quantization);
	uint8_t *to = memory(stride * 7 + blocks * 8);
	limner_idct(coefficients, quantization, blocks, to, stride);
	free(coefficients), free(quantization), free(to);
}

static void unfilter(void) {
	static const int forms[] = {1, 3, 4};
	int bpp = forms[below(3)];
	long rows = 1 + below(9), bytes = (1 + below(20)) * bpp;
	uint8_t *from = memory(rows * (1 + bytes)), *to = memory(rows * bytes), *above = memory(bytes);
	memset(above, 0, bytes);
	if (below(8))
		for (long y = 0; y < rows; y++) from[y * (1 + bytes)] %= 5;
	limner_unfilter(from, to, above, rows, bytes, bpp);
	free(from), free(to), free(above);
}

// filter checks that what it does is undone.
static void filter(void) {
	long n = (1 + below(60)) * 3;
	uint8_t *from = memory(n), *above = memory(n), *to = memory(1 + n), *scratch = memory(5 * n), *back = memory(n);
	memset(above, 0, n);
	limner_filter(from, above, to, n, scratch);
	if (!limner_unfilter(to, back, above, 1, n, 3) || memcmp(from, back, n)) {
		fprintf(stderr, "a row of %ld bytes does not come back from filter %d\n", n, to[0]);
		exit(1);
	}
	free(from), free(above), free(to), free(scratch), free(back);
}

static void floats(void) {
	long n = below(100);
	uint8_t *from = memory(n);
	float *to = memory(n * sizeof *to);
	limner_floats(from, to, n);
	limner_signed_floats(from, to, n);
	free(from), free(to);
}

int main(void) {
	for (int i = 0; i < 3000; i++) {
		resize();
		ycc();
		idct();
		unfilter();
		filter();
		floats();
	}
	return 0;
}
