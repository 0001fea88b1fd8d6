// Pillow's resampling of 8-bit images: sums of samples times weights in 32 bits of fixed point, which is exact, so that
// it does not matter in which order they are added.
#include "vector.h"
#include <string.h>

enum {
	weight_bits = 32 - 8 - 2, // as in resize.go
	half = 1 << (weight_bits - 1),
	strip = 64, // sums of a row that are held at once
};

static inline uint8_t clip(int32_t sum) {
	sum >>= weight_bits;
	return sum < 0 ? 0 : sum > 255 ? 255 : sum;
}

static void plain_rows(const resizing *r, long row) {
	const uint8_t *from = r->from + row * r->stride;
	uint8_t *to = r->to + row * r->size * 3;
	const int32_t *w = r->weights;
	for (long x = 0; x < r->size; x++, w += r->taps)
		for (long c = 0; c < 3; c++) {
			const uint8_t *at = from + r->first[x] * 3L + c;
			int32_t sum = half;
			for (long t = 0; t < r->taps; t++) sum += at[t * 3] * w[t];
			*to++ = clip(sum);
		}
}

// plain_columns does the samples of a row from x on.
static void plain_columns(const resizing *r, long row, long x) {
	const uint8_t *from = r->from + r->first[row] * r->stride;
	const int32_t *w = r->weights + row * r->taps;
	uint8_t *to = r->to + row * r->stride;
	for (; x < r->stride; x += strip) {
		long n = r->stride - x < strip ? r->stride - x : strip;
		int32_t sums[strip];
		for (long i = 0; i < n; i++) sums[i] = half;
		for (long t = 0; t < r->taps; t++)
			for (long i = 0; i < n; i++) sums[i] += from[t * r->stride + x + i] * w[t];
		for (long i = 0; i < n; i++) to[x + i] = clip(sums[i]);
	}
}

#ifdef __x86_64__
#include <immintrin.h>
#define avx2 __attribute__((target("avx2")))

int limner_resize_wide(void) { return __builtin_cpu_supports("avx2"); }

// low packs the whole numbers of eight sums, cut to a sample's range, into the lower four bytes of each half.
avx2 static inline __m256i low(__m256i sums) {
	sums = _mm256_srai_epi32(sums, weight_bits);
	sums = _mm256_packs_epi32(sums, sums);
	return _mm256_packus_epi16(sums, sums);
}

// wide_rows does four rows, two taps at a time: weights has each pair as eight numbers, three times the first, three
// times the second and two zeros. From each pixel eight bytes are read.
avx2 static void wide_rows(const resizing *r, const int32_t *weights, const uint8_t *const *from, uint8_t *const *to) {
	enum { abreast = 4 };
	const __m256i beside = _mm256_setr_epi32(3, 4, 5, 6, 7, 7, 7, 7);
	for (long x = 0; x < r->size; x++) {
		__m256i sums[abreast];
		for (int k = 0; k < abreast; k++) sums[k] = _mm256_setr_epi32(half, half, half, 0, 0, 0, 0, 0);
		long at = r->first[x] * 3L;
		for (long t = 0; t < r->taps; t += 2, at += 6, weights += 8) {
			__m256i w = _mm256_loadu_si256((const __m256i *)weights);
			for (int k = 0; k < abreast; k++) {
				__m256i samples = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from[k] + at)));
				sums[k] = _mm256_add_epi32(sums[k], _mm256_mullo_epi32(samples, w));
			}
		}
		for (int k = 0; k < abreast; k++) {
			__m256i all = low(_mm256_add_epi32(sums[k], _mm256_permutevar8x32_epi32(sums[k], beside)));
			int32_t pixel = _mm256_cvtsi256_si32(all);
			if (x + 1 < r->size) memcpy(to[k] + x * 3, &pixel, 4); // its fourth byte is written again
			else memcpy(to[k] + x * 3, &pixel, 3);
		}
	}
}

avx2 static void wide_columns(const resizing *r, long row) {
	enum { blocks = 4, block = 8 };
	const uint8_t *from = r->from + r->first[row] * r->stride;
	const int32_t *w = r->weights + row * r->taps;
	uint8_t *to = r->to + row * r->stride;
	long x = 0;
	for (; x + blocks * block <= r->stride; x += blocks * block) {
		__m256i sums[blocks];
		for (int k = 0; k < blocks; k++) sums[k] = _mm256_set1_epi32(half);
		for (long t = 0; t < r->taps; t++) {
			const uint8_t *at = from + t * r->stride + x;
			__m256i weight = _mm256_set1_epi32(w[t]);
			for (int k = 0; k < blocks; k++) {
				__m256i samples = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(at + k * block)));
				sums[k] = _mm256_add_epi32(sums[k], _mm256_mullo_epi32(samples, weight));
			}
		}
		for (int k = 0; k < blocks; k++) {
			__m256i bytes = low(sums[k]);
			int32_t halves[2] = {_mm256_cvtsi256_si32(bytes), _mm256_extract_epi32(bytes, 4)};
			memcpy(to + x + k * block, halves, block);
		}
	}
	plain_columns(r, row, x);
}
#else
int limner_resize_wide(void) { return 0; }
#endif

void limner_resize_rows(const resizing *r, long rows, const int32_t *pairs) {
	long row = 0;
#ifdef __x86_64__
	// Up to five bytes are read beyond a row, which are in the next one: the last is done without.
	for (; pairs && row + 1 < rows && r->stride >= 5; row += 4) {
		const uint8_t *from[4];
		uint8_t *to[4];
		for (long k = 0; k < 4; k++) { // some may be done again
			long at = row + k + 1 < rows ? row + k : rows - 2;
			from[k] = r->from + at * r->stride;
			to[k] = r->to + at * r->size * 3;
		}
		wide_rows(r, pairs, (const uint8_t *const *)from, to);
	}
	if (row >= rows) row = rows - 1;
#else
	(void)pairs;
#endif
	for (; row < rows; row++) plain_rows(r, row);
}

void limner_resize_columns(const resizing *r, int wide) {
	for (long row = 0; row < r->size; row++) {
#ifdef __x86_64__
		if (wide) {
			wide_columns(r, row);
			continue;
		}
#else
		(void)wide;
#endif
		plain_columns(r, row, 0);
	}
}
