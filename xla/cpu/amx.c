// Convolutions of float32 by the matrix unit that some processors have (Intel's AMX). It multiplies bfloat16, sixteen
// times as many in a cycle as vectors multiply float32. A float32 of 24 bits is the sum of three bfloat16 of 8. Of the
// nine products of two such sums six are computed: the others are too small to change a float32. So results are as
// exact as with vectors, except that numbers below 2^-110 keep fewer bits, and infinity gives NaN.
#define _GNU_SOURCE
#include "convolve.h"

#if defined __x86_64__ && defined __linux__ && (defined __clang__ ? __clang_major__ >= 12 : __GNUC__ >= 11)

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define amx __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw")))

// The unit has eight tiles of 16 rows of 64 bytes. Four hold the sums of 32 pixels and 32 outputs, two hold pixels and
// two weights.
enum {
	rows = 16,
	chunk = 32,          // channels of a tile of pixels or weights
	parts = 3,           // of a float32
	part = rows * chunk, // of a tile of pixels or of weights
	panel = 2 * rows,    // outputs of two tiles
	abreast = 10,        // panels of a task, at most
	depth = 160,         // channels at once, at most
	area = 256,          // pixels of a task, about
	narrow = 16,         // of them in a line, where lines are needed more than once
};

typedef uint16_t bf16;

typedef struct {
	const convolution *c;
	long images, height, width;        // of a task: a rectangle of one image, or whole ones
	long across, down, strips, ranges; // tasks: rectangles, and parts of the outputs
	int *failed;                       // there was no memory
} job;

// A share is what a task computes: some pixels and panels, for which it sums some channels and a column of the kernel
// at a time.
typedef struct {
	const convolution *c;
	long image, images, row, height, column, width; // pixels
	long output, panels;
	long lines, apart;        // lines of x for an image, and how many of them are met by a tap
	long groups;              // of 16 pixels of an image
	long k, n, tap;           // channels, and the kernel's column
	long step, area, weights; // distances of pixels, images and panels in what follows
	bf16 *pixels, *panel;
} share;

int limner_amx(void) {
	static int answer = -1;
	// ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA: Linux lets only those processes use the unit that ask for it.
	const int request = 0x1023, tiles = 18;
	unsigned a, b, c, d;
	if (answer < 0)
		answer = __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 16 & 1 && b >> 30 & 1 && d >> 22 & 1 && d >> 24 & 1 &&
			syscall(SYS_arch_prctl, request, tiles) == 0;
	return answer;
}

// step_of is the distance of pixels of n channels: an odd number of chunks, since otherwise too many lie in the same
// sets of the cache.
static long step_of(long n) { return (n / chunk * parts | 1) * chunk; }

// tap_at is where a line of an image's pixels begins: the lines that a tap meets lie one after another.
static long tap_at(const share *s, long line) {
	return (line % s->c->stride * s->apart + line / s->c->stride) * s->width * s->step;
}

static const bf16 *group_at(const share *s, long group) {
	return s->pixels + group / s->groups * s->area + group % s->groups * rows * s->step;
}

// high is the bits of a float32 that a bfloat16 can hold.
amx static inline __m512 high(__m512 x) {
	return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0xffff0000)));
}

// split_pixel writes n channels of a pixel as chunks, each in its three parts.
amx static void split_pixel(bf16 *to, const float *x, long n) {
	static const bf16 odd[chunk] = {
		1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
		33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63,
	};
	__m512i upper = _mm512_loadu_si512(odd);
	for (long k = 0; k < n; k += chunk) {
		__m512 a = _mm512_loadu_ps(x + k), b = _mm512_loadu_ps(x + k + lanes);
#pragma GCC unroll 3
		for (int i = 0; i < parts; i++, to += chunk) {
			_mm512_store_si512(to, _mm512_permutex2var_epi16(_mm512_castps_si512(a), upper, _mm512_castps_si512(b)));
			a -= high(a);
			b -= high(b);
		}
	}
}

// split_weights writes weights [n, panels of outputs] as tiles: two for each panel, chunk and part. A row of a tile has
// two channels, pair by pair.
amx static void split_weights(bf16 *to, long step, const float *w, long n, long out, long panels) {
	for (long k = 0; k < n; k += chunk, w += chunk * out, to += 2 * parts * part)
		for (long p = 0; p < panels; p++)
			for (long row = 0; row < rows; row++)
#pragma GCC unroll 2
				for (int half = 0; half < 2; half++) {
					const float *from = w + 2 * row * out + p * panel + half * lanes;
					bf16 *pairs = to + p * step + half * part + row * chunk;
					__m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + out);
#pragma GCC unroll 3
					for (int i = 0; i < parts; i++, pairs += 2 * part) {
						__m512i low = _mm512_srli_epi32(_mm512_castps_si512(a), 16);
						_mm512_store_si512(pairs, _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_castps_si512(b)));
						a -= high(a);
						b -= high(b);
					}
				}
}

#define load_pixels(i) \
	_tile_loadd(4, a + (i) * chunk, step); \
	_tile_loadd(5, b + (i) * chunk, step);
#define load_weights(i) \
	_tile_loadd(6, w + (i) * 2 * part, chunk * sizeof *w); \
	_tile_loadd(7, w + (i) * 2 * part + part, chunk * sizeof *w);
#define multiply() \
	_tile_dpbf16ps(0, 4, 6); \
	_tile_dpbf16ps(1, 4, 7); \
	_tile_dpbf16ps(2, 5, 6); \
	_tile_dpbf16ps(3, 5, 7);

// multiply_panel sums, over a column of the kernel's taps, the products of two groups of pixels with a panel's weights.
amx static void multiply_panel(const share *s, const bf16 *const group[2], const bf16 *w, float *sums) {
	const long step = s->step * sizeof *w, line = panel * sizeof *sums;
	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
	for (long i = 0; i < s->c->size; i++) {
		const bf16 *a = group[0] + tap_at(s, i), *b = group[1] + tap_at(s, i);
		for (long k = 0; k < s->n; k += chunk, a += parts * chunk, b += parts * chunk, w += 2 * parts * part) {
			load_pixels(0) load_weights(2) multiply()
			load_weights(1) multiply()
			load_pixels(1) multiply()
			load_weights(0) multiply()
			load_pixels(0) multiply()
			load_pixels(2) multiply()
		}
	}
	_tile_stored(0, sums, line);
	_tile_stored(1, sums + rows, line);
	_tile_stored(2, sums + rows * panel, line);
	_tile_stored(3, sums + rows * panel + rows, line);
}

// add adds the sums of a group of pixels and a panel to y, or begins it.
amx static void add(const share *s, long group, long output, const float *sums) {
	static const float none[panel];
	const convolution *c = s->c;
	long pixel = group % s->groups * rows, n = least(rows, s->height * s->width - pixel), at = pixel % s->width;
	long line = (s->image + group / s->groups) * c->height + s->row + pixel / s->width;
	float *y = c->y + (line * c->width + s->column + at) * c->out + output;
	for (; n > 0; n--, sums += panel, y += c->out) {
		const float *before = s->k > 0 || s->tap > 0 ? y : c->bias ? c->bias + output : none;
		vector a = *(vector *)sums + *(vector *)before, b = *(vector *)(sums + lanes) + *(vector *)(before + lanes);
		*(vector *)y = a, *(vector *)(y + lanes) = b;
		if (++at == s->width) at = 0, y += (c->width - s->width) * c->out;
	}
}

// add_part adds some channels and a column of the kernel.
amx static void add_part(const share *s) {
	const convolution *c = s->c;
	for (long i = 0; i < c->size; i++) {
		const float *w = c->w + ((i * c->size + s->tap) * c->in + s->k) * c->out + s->output;
		split_weights(s->panel + i * s->n / chunk * 2 * parts * part, s->weights, w, s->n, c->out, s->panels);
	}
	for (long i = 0; i < s->images * s->lines; i++) {
		long image = i / s->lines, line = i % s->lines;
		bf16 *to = s->pixels + image * s->area + tap_at(s, line);
		long row = s->row * c->stride + line - c->padding;
		for (long at = 0; at < s->width; at++, to += s->step) {
			long column = (s->column + at) * c->stride + s->tap - c->padding;
			if (row < 0 || row >= c->rows || column < 0 || column >= c->columns) {
				memset(to, 0, s->step * sizeof *to);
				continue;
			}
			long pixel = ((s->image + image) * c->rows + row) * c->columns + column;
			split_pixel(to, c->x + pixel * c->in + s->k, s->n);
		}
	}
	long groups = s->images * s->groups;
	for (long p = 0; p < s->panels; p++)
		for (long g = 0; g < groups; g += 2) {
			float sums[2 * rows * panel] __attribute__((aligned(64)));
			long other = least(g + 1, groups - 1);
			const bf16 *group[] = {group_at(s, g), group_at(s, other)};
			multiply_panel(s, group, s->panel + p * s->weights, sums);
			add(s, g, s->output + p * panel, sums);
			if (other > g) add(s, other, s->output + p * panel, sums + rows * panel);
		}
}

// convolve_share does a task.
amx static void convolve_share(const void *data, long task) {
	static const struct {
		uint8_t palette, start, reserved[14];
		uint16_t bytes[16];
		uint8_t rows[16];
	} tiles = {
		.palette = 1,
		.bytes = {64, 64, 64, 64, 64, 64, 64, 64},
		.rows = {rows, rows, rows, rows, rows, rows, rows, rows},
	};
	const job *j = data;
	const convolution *c = j->c;
	long strip = task % j->strips, range = task / j->strips, all = c->out / panel;
	share s = {
		.c = c,
		.column = strip % j->across * j->width,
		.row = strip / j->across % j->down * j->height,
		.image = strip / j->across / j->down * j->images,
	};
	s.width = least(j->width, c->width - s.column), s.height = least(j->height, c->height - s.row);
	s.images = least(j->images, c->n - s.image);
	s.output = range * all / j->ranges * panel, s.panels = (range + 1) * all / j->ranges - range * all / j->ranges;
	s.lines = (s.height - 1) * c->stride + c->size, s.apart = (s.lines + c->stride - 1) / c->stride;
	s.groups = (s.height * s.width + rows - 1) / rows;
	long deep = (c->in + depth - 1) / depth, most = (c->in / chunk + deep - 1) / deep * chunk;
	size_t pixels = (s.images * c->stride * s.apart * s.width + rows) * step_of(most);
	size_t weights = s.panels * c->size * most * panel * parts;
	s.pixels = ffi_scratch((pixels + weights) * sizeof *s.pixels), s.panel = s.pixels + pixels;
	if (!s.pixels) {
		*j->failed = 1;
		return;
	}
	// Subnormal numbers count as 0, as they do in the unit: otherwise each would cost hundreds of cycles.
	unsigned control = _mm_getcsr(), zeros = 0x8040;
	_mm_setcsr(control | zeros);
	_tile_loadconfig(&tiles);
	for (s.k = 0; s.k < c->in; s.k += most) {
		s.n = least(most, c->in - s.k), s.step = step_of(s.n);
		s.area = c->stride * s.apart * s.width * s.step, s.weights = c->size * s.n * panel * parts;
		for (s.tap = 0; s.tap < c->size; s.tap++) add_part(&s);
	}
	_tile_release();
	_mm_setcsr(control);
}

int amx_takes(const convolution *c) { return limner_amx() && c->in % chunk == 0 && c->out % panel == 0; }

int amx_convolve(const ffi_call *f, const convolution *c) {
	int failed = 0;
	long panels = c->out / panel, threads = ffi_threads(f);
	job j = {.c = c, .failed = &failed, .images = 1, .width = least(c->size > 1 ? narrow : area, c->width)};
	j.height = least((area + j.width - 1) / j.width, c->height);
	if (j.width == c->width && j.height == c->height)
		j.images = least((area + j.width * j.height - 1) / (j.width * j.height), c->n);
	j.across = (c->width + j.width - 1) / j.width, j.down = (c->height + j.height - 1) / j.height;
	j.strips = (c->n + j.images - 1) / j.images * j.down * j.across;
	j.ranges = (panels + abreast - 1) / abreast;
	while (j.ranges < panels && j.strips * j.ranges < 4 * threads && j.strips * j.ranges % threads) j.ranges++;
	ffi_spread(f, j.strips * j.ranges, convolve_share, &j);
	return !failed;
}

#else

int limner_amx(void) { return 0; }
int amx_takes(const convolution *c) { return 0; }
int amx_convolve(const ffi_call *f, const convolution *c) { return 0; }

#endif
