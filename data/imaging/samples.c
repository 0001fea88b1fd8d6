// A JPEG's planes to RGB as libjpeg does it, and samples to floats as torchvision does.
#include "vector.h"
#include <string.h>

// double_row doubles sums [n] in width, with a sum before and one behind them that repeat the outer two: each output is
// ¾ of its own sum and ¼ of the one beside it, which for the outer two outputs is their own again.
static inline __attribute__((always_inline)) void double_row(const uint16_t *restrict sums, uint8_t *restrict to,
	long n, int bias_left, int bias_right, int shift) {
	for (long x = 0; x < n; x++) {
		uint16_t sum = sums[x] * 3;
		to[2 * x] = (uint16_t)(sum + sums[x - 1] + bias_left) >> shift;
		to[2 * x + 1] = (uint16_t)(sum + sums[x + 1] + bias_right) >> shift;
	}
}

// chroma_row upsamples picture row y of a plane, by libjpeg's triangle filter where it has one. It returns the samples,
// which lie in the plane or in to.
static inline __attribute__((always_inline)) const uint8_t *chroma_row(const planes *p, const uint8_t *plane, long y,
	uint16_t *restrict sums, uint8_t *restrict to) {
	long width = (p->width + p->step_x - 1) / p->step_x, height = (p->height + p->step_y - 1) / p->step_y;
	const uint8_t *near = plane + y / p->step_y * p->chroma_stride;
	if (p->step_x == 1 && p->step_y == 1) return near;
	// The other row that contributes to this one: above for even rows, below for odd ones.
	long other = y / p->step_y + 2 * (y % 2) - 1;
	const uint8_t *far = plane + (other < 0 ? 0 : other >= height ? height - 1 : other) * p->chroma_stride;
	if (p->step_x == 1) { // libjpeg's h1v2: ¾ near + ¼ far
		int bias = 1 + y % 2;
		for (long x = 0; x < width; x++) to[x] = (3 * near[x] + far[x] + bias) >> 2;
		return to;
	}
	if (p->step_x > 2 || width <= 2) { // libjpeg has no filter, or one that needs more samples
		for (long x = 0; x < p->width; x++) to[x] = near[x / p->step_x];
		return to;
	}
	sums++;
	if (p->step_y == 1)
		for (long x = 0; x < width; x++) sums[x] = near[x];
	else // without rounding between the two directions
		for (long x = 0; x < width; x++) sums[x] = 3 * near[x] + far[x];
	sums[-1] = sums[0];
	sums[width] = sums[width - 1];
	if (p->step_y == 1) double_row(sums, to, width, 1, 2, 2);
	else double_row(sums, to, width, 8, 7, 4);
	return to;
}

static inline uint8_t clip(int32_t v) { return v < 0 ? 0 : v > 255 ? 255 : v; }

long limner_ycc_scratch(long width, int step_x) {
	long n = (width + step_x - 1) / step_x;
	return (n + 2) * sizeof(uint16_t) + 2 * n * step_x;
}

vectors void limner_ycc(const planes *p, uint16_t *scratch, uint8_t *restrict to) {
	long n = (p->width + p->step_x - 1) / p->step_x;
	uint8_t *up = (uint8_t *)(scratch + n + 2);
	for (long y = 0; y < p->height; y++, to += p->width * 3) {
		const uint8_t *luma = p->luma + y * p->luma_stride;
		const uint8_t *blue = chroma_row(p, p->blue, y, scratch, up);
		const uint8_t *red = chroma_row(p, p->red, y, scratch, up + n * p->step_x);
		for (long x = 0; x < p->width; x++) { // libjpeg's conversion in 16 bits of fixed point
			const int32_t half = 1 << 15;
			int32_t v = luma[x], cb = blue[x] - 128, cr = red[x] - 128;
			to[3 * x] = clip(v + ((91881 * cr + half) >> 16));                    // 1.40200
			to[3 * x + 1] = clip(v + ((-22554 * cb - 46802 * cr + half) >> 16)); // 0.34414, 0.71414
			to[3 * x + 2] = clip(v + ((116130 * cb + half) >> 16));               // 1.77200
		}
	}
}

vectors void limner_floats(const uint8_t *restrict from, float *restrict to, long n) {
	for (long i = 0; i < n; i++) to[i] = (float)from[i] / 255;
}

vectors void limner_signed_floats(const uint8_t *restrict from, float *restrict to, long n) {
	for (long i = 0; i < n; i++) to[i] = ((float)from[i] / 255 - 0.5f) / 0.5f;
}
