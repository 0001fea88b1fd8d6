// Elements of tensors change their dtype and their order here rather than in Go, whose compiler does not use vector
// instructions: each of hundreds of millions of weights passes on the way to a device.
#include "move.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

// Each loop is compiled for several sets of instructions, where the C library can choose among them when the program
// starts.
#if defined __x86_64__ && defined __GLIBC__ && defined __has_attribute
#if __has_attribute(target_clones)
#define vectors __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
#ifndef vectors
#define vectors
#endif

// Elements of files lie at any address.
#define unaligned __attribute__((aligned(1), may_alias))
typedef uint16_t unaligned any16;
typedef double unaligned any_double;

// On the way, an element is the bits of a float32, or 16 bits that only move. An encoder returns the first element that
// the dtype cannot hold, or n.
typedef void decoder(uint32_t *restrict to, const void *restrict from, long n);
typedef long encoder(void *restrict to, const uint32_t *restrict from, long n);

static uint32_t bits(float f) {
	uint32_t b;
	memcpy(&b, &f, sizeof b);
	return b;
}

static float value(uint32_t b) {
	float f;
	memcpy(&f, &b, sizeof f);
	return f;
}

// choose is a where it is so and b elsewhere, without a branch, which would keep a loop from vector instructions.
static inline uint32_t choose(int so, uint32_t a, uint32_t b) { return b ^ ((a ^ b) & -(uint32_t)so); }

vectors static void decode_bits16(uint32_t *restrict to, const void *restrict from, long n) {
	for (long i = 0; i < n; i++) to[i] = ((const any16 *)from)[i];
}

static void decode_f32(uint32_t *restrict to, const void *restrict from, long n) { memcpy(to, from, n * sizeof *to); }

vectors static void decode_f16(uint32_t *restrict to, const void *restrict from, long n) {
	for (long i = 0; i < n; i++) {
		uint32_t h = ((const any16 *)from)[i];
		uint32_t b = bits(value((h & 0x7fff) << 13) * 0x1p112f); // rebiases the exponent, of subnormals too
		b |= choose((h & 0x7c00) == 0x7c00, 0x7f800000, 0);      // infinity and NaN
		to[i] = b | (h & 0x8000) << 16;
	}
}

vectors static void decode_bf16(uint32_t *restrict to, const void *restrict from, long n) {
	for (long i = 0; i < n; i++) to[i] = (uint32_t)((const any16 *)from)[i] << 16;
}

vectors static void decode_f64(uint32_t *restrict to, const void *restrict from, long n) {
	for (long i = 0; i < n; i++) to[i] = bits(((const any_double *)from)[i]);
}

vectors static void decode_u8(uint32_t *restrict to, const void *restrict from, long n) {
	for (long i = 0; i < n; i++) to[i] = bits(((const uint8_t *)from)[i]);
}

vectors static long encode_bits16(void *restrict to, const uint32_t *restrict from, long n) {
	for (long i = 0; i < n; i++) ((any16 *)to)[i] = from[i];
	return n;
}

static long encode_f32(void *restrict to, const uint32_t *restrict from, long n) {
	memcpy(to, from, n * sizeof *from);
	return n;
}

// half is rounded to nearest even. NaN keeps its upper payload and never becomes infinity.
static inline uint32_t half(uint32_t b) {
	uint32_t size = b & 0x7fffffff;
	uint32_t normal = (size - (112 << 23) + 0xfff + (size >> 13 & 1)) >> 13; // a carry may reach infinity, as it should
	uint32_t subnormal = bits(value(size) + 0.5f) - bits(0.5f);              // 2^-24 is the last place of 0.5
	uint32_t payload = size >> 13 & 0x3ff, nan = 0x7c00 | choose(payload != 0, payload, 0x200);
	uint32_t h = choose(size < 0x38800000, subnormal, normal);
	return choose(size > 0x7f800000, nan, choose(size >= 0x47800000, 0x7c00, h)) | (b >> 16 & 0x8000);
}

vectors static long encode_f16(void *restrict to, const uint32_t *restrict from, long n) {
	uint32_t lost = 0;
	for (long i = 0; i < n; i++) {
		uint32_t h = half(from[i]);
		lost |= choose((h & 0x7fff) == 0x7c00, (from[i] & 0x7fffffff) ^ 0x7f800000, 0);
		((any16 *)to)[i] = h;
	}
	if (!lost) return n;
	for (long i = 0;; i++)
		if ((half(from[i]) & 0x7fff) == 0x7c00 && (from[i] & 0x7fffffff) != 0x7f800000) return i;
}

vectors static long encode_bf16(void *restrict to, const uint32_t *restrict from, long n) {
	for (long i = 0; i < n; i++) {
		uint32_t b = from[i];
		uint32_t nan = b >> 16 | choose((b >> 16 & 0x7f) != 0, 0, 0x40);
		((any16 *)to)[i] = choose((b & 0x7fffffff) > 0x7f800000, nan, (b + 0x7fff + (b >> 16 & 1)) >> 16);
	}
	return n;
}

vectors static long encode_f64(void *restrict to, const uint32_t *restrict from, long n) {
	for (long i = 0; i < n; i++) ((any_double *)to)[i] = value(from[i]);
	return n;
}

static long encode_u8(void *restrict to, const uint32_t *restrict from, long n) {
	for (long i = 0; i < n; i++) {
		float f = value(from[i]);
		if (!(f >= 0 && f <= 255) || f != (uint8_t)f) return i;
		((uint8_t *)to)[i] = f;
	}
	return n;
}

static const struct {
	long width; // bytes
	decoder *decode;
	encoder *encode;
} dtypes[] = {
	[bits16] = {2, decode_bits16, encode_bits16}, [f32] = {4, decode_f32, encode_f32},
	[f16] = {2, decode_f16, encode_f16},          [bf16] = {2, decode_bf16, encode_bf16},
	[f64] = {8, decode_f64, encode_f64},          [u8] = {1, decode_u8, encode_u8},
};

// A matrix is transposed in tiles, which stay in the nearest caches. They are taller than wide: rows of a tile are read
// and its columns are written, and writing costs more.
enum { rows = 128, columns = 64 };

// Eight numbers, and eight of two times eight.
typedef uint32_t eight __attribute__((vector_size(32)));
#ifdef __clang__
#define pick(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define pick(a, b, ...) __builtin_shuffle(a, b, (eight){__VA_ARGS__})
#endif

// turn_eight writes the transpose of eight rows of eight numbers: it interleaves pairs of rows number by number, then
// pairs of the results by two numbers, and joins halves of four.
static inline __attribute__((always_inline)) void turn_eight(uint32_t *restrict to, long to_step,
	const uint32_t *restrict from, long from_step) {
	eight a[8], b[8];
	for (int i = 0; i < 8; i++) memcpy(&a[i], from + i * from_step, sizeof a[i]);
	for (int i = 0; i < 8; i += 2) {
		b[i] = pick(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
		b[i + 1] = pick(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
	}
	for (int i = 0; i < 8; i++) {
		int first = i / 4 * 4 + i % 4 / 2;
		a[i] = i % 2 ? pick(b[first], b[first + 2], 2, 3, 10, 11, 6, 7, 14, 15)
			: pick(b[first], b[first + 2], 0, 1, 8, 9, 4, 5, 12, 13);
	}
	for (int i = 0; i < 4; i++) {
		b[i] = pick(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
		b[i + 4] = pick(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
	}
	for (int i = 0; i < 8; i++) memcpy(to + i * to_step, &b[i], sizeof b[i]);
}

// turn writes the transpose of a matrix of that many rows and columns.
vectors static void turn(uint32_t *restrict to, const uint32_t *restrict from, long from_rows, long from_columns) {
	long whole_rows = from_rows & -8, whole_columns = from_columns & -8;
	for (long r = 0; r < whole_rows; r += 8)
		for (long c = 0; c < whole_columns; c += 8)
			turn_eight(to + c * from_rows + r, from_rows, from + r * from_columns + c, from_columns);
	for (long c = 0; c < from_columns; c++)
		for (long r = c < whole_columns ? whole_rows : 0; r < from_rows; r++)
			to[c * from_rows + r] = from[r * from_columns + c];
}

// put copies an aligned line past the caches where it can: all that is written is more than they hold, and this way the
// processor need not read it first.
static void put(char *to, const char *line, long n) {
#ifdef __SSE2__
	if (!((uintptr_t)to & 15 || n & 15)) {
		for (long i = 0; i < n; i += 16) _mm_stream_si128((__m128i *)(to + i), *(const __m128i *)(line + i));
		return;
	}
#endif
	memcpy(to, line, n);
}

static long least(long a, long b) { return a < b ? a : b; }

// limner_move converts rows begin to end of a matrix [out, in·area]; if the order stays the same, elements begin to
// end. It returns the place in the result of an element that its dtype cannot hold, or -1. from begins with the row, or
// element, first of the source.
long limner_move(void *to, int to_dtype, const void *from, int from_dtype, long out, long in, long area, int order,
	long begin, long end, long first) {
	const char *source = from;
	char *target = to;
	long source_width = dtypes[from_dtype].width, target_width = dtypes[to_dtype].width, width = in * area;
	decoder *decode = dtypes[from_dtype].decode;
	encoder *encode = dtypes[to_dtype].encode;
	uint32_t square[rows * columns], turned[rows * columns]; // of a tile: in the file's order, and in memory's
	char line[rows * sizeof(double)] __attribute__((aligned(16)));

	if (order == same_order) {
		for (long i = begin, n; i < end; i += n) {
			n = least(rows * columns, end - i);
			decode(square, source + (i - first) * source_width, n);
			long good = encode(target + i * target_width, square, n);
			if (good < n) return i + good;
		}
		return -1;
	}
	for (long i = begin; i < end; i += rows) {
		long n = least(rows, end - i);
		for (long j = 0; j < width; j += columns) {
			long m = least(columns, width - j);
			if (order == to_memory) {
				for (long r = 0; r < n; r++) {
					const char *p = source + ((i - first + r) * width + j) * source_width;
					for (long k = 0; k < columns * source_width; k += 64) // of the tile after the next
						__builtin_prefetch(p + 2 * columns * source_width + k);
					decode(square + r * m, p, m);
				}
				turn(turned, square, n, m);
			}
			for (long c = 0; c < m; c++) {
				// In memory's order columns are rows, those of one pixel together.
				long at = ((j + c) % area * in + (j + c) / area) * out + i;
				if (order == to_file) {
					decode(turned + c * n, source + at * source_width, n);
					continue;
				}
				long good = encode(line, turned + c * n, n);
				if (good < n) return at + good;
				put(target + at * target_width, line, n * target_width);
			}
			if (order == to_file) {
				turn(square, turned, m, n);
				for (long r = 0; r < n; r++) {
					long at = (i + r) * width + j, good = encode(target + at * target_width, square + r * m, m);
					if (good < m) return at + good;
				}
			}
		}
	}
#ifdef __SSE2__
	_mm_sfence(); // what put has written is there for other threads
#endif
	return -1;
}
