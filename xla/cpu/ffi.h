// Functions that XLA's programs call on a CPU (XLA_FFI, version 0.2 of its C API): what XLA passes to them, and what
// they ask of it.
#ifndef LIMNER_FFI_H
#define LIMNER_FFI_H

#include <stddef.h>
#include <stdint.h>

// Loops are compiled for processors with wide vectors as well, where the C library can choose when the program starts.
#if defined __x86_64__ && defined __GLIBC__ && defined __has_attribute
#if __has_attribute(target_clones)
#define vectors __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#define has_clones
#endif
#endif
#ifndef vectors
#define vectors
#endif

typedef struct {
	size_t size;
	void *extension;
	int dtype;
	float *data;
	int64_t rank;
	const int64_t *dims;
} ffi_buffer;

typedef struct {
	size_t size;
	void *extension;
	int64_t count;
	const int *types;
	ffi_buffer *const *buffers;
} ffi_buffers;

typedef struct {
	size_t size;
	void *extension;
	int major, minor;
} ffi_version;

typedef struct {
	size_t size;
	int type; // ffi_metadata_extension
	void *next;
	struct {
		size_t size;
		ffi_version version;
		uint32_t traits;
	} *metadata;
} ffi_extension;

typedef struct {
	const char *text;
	size_t size;
} ffi_name;

typedef struct {
	int dtype;
	const void *value;
} ffi_scalar;

typedef struct {
	size_t size;
	ffi_extension *extension;
	const char *api; // a table as a plugin's
	void *context;
	int stage;
	ffi_buffers arguments, results;
	struct {
		size_t size;
		void *extension;
		int64_t count;
		const int *types; // of the values: ffi_scalar_attribute or another
		ffi_name *const *names;
		void *const *values;
	} attributes;
} ffi_call;

typedef struct {
	size_t size;
	void *extension;
	void *context;
	void (*task)(void *data);
	void *data;
} ffi_schedule_args;

typedef struct {
	size_t size;
	void *extension;
	void *context;
	int64_t *threads;
} ffi_threads_args;

typedef struct {
	size_t size;
	void *extension;
	const char *message;
	int code;
} ffi_error_args;

typedef struct {
	size_t size;
	void *extension;
	void *error;
} ffi_error_destroy_args;

enum {
	ffi_major = 0,
	ffi_minor = 2,
	ffi_metadata_extension = 1,
	ffi_version_place = 32,
	ffi_error_create = 48,
	ffi_error_destroy = 64,
	ffi_threads_schedule = 136,
	ffi_threads_count = 144,
	ffi_invalid_argument = 3,
	ffi_scalar_attribute = 3,
	ffi_s64 = 5,
	ffi_f32 = 11,
};

// call calls the function at a place of XLA's table. It returns NULL, or an error.
static inline void *call(const char *api, size_t place, void *args) {
	void *(*function)(void *) = *(void *(*const *)(void *))(api + place);
	return function(args);
}

// ffi_begin answers a call that only asks which version a function is written for, and returns whether it was one.
int ffi_begin(ffi_call *f);

// ffi_invalid is the result of a call that cannot be done.
void *ffi_invalid(const ffi_call *f, const char *message);

// ffi_integer and ffi_number read the attribute of that name and return 1, or 0 where there is none or it is of another
// type.
int ffi_integer(const ffi_call *f, const char *name, int64_t *value);
int ffi_number(const ffi_call *f, const char *name, float *value);

// ffi_threads is how many threads of XLA's, this one included, ffi_spread may use.
long ffi_threads(const ffi_call *f);

// ffi_scratch is memory that a thread keeps, for one use at a time; NULL if there is none.
void *ffi_scratch(size_t bytes);

// ffi_spread has work called for all numbers below tasks, on this thread and XLA's others.
void ffi_spread(const ffi_call *f, long tasks, void (*work)(const void *data, long task), const void *data);

// A product of matrices is computed in tiles of 12 rows and 32 columns, which stay in registers while a part of the
// inner axis is summed.
enum {
	lanes = 16,
	wide = 2 * lanes, // columns of a tile
	quad = 4,         // rows that lie at equal distances
};

typedef float vector __attribute__((vector_size(lanes * sizeof(float)), aligned(sizeof(float)), may_alias));

typedef int32_t integers __attribute__((vector_size(lanes * sizeof(int32_t)), aligned(sizeof(int32_t)), may_alias));

// tile adds x·w to y for so many quads of rows, or with first sets y to it. x are the first rows of the quads, x_step
// is the distance to the next row and y_step that of y's; w is [n, wide]. x·w is summed by itself, which rounds less.
void tile(long quads, const float *const *x, long x_step, const float *w, long n, float *y, long y_step, int first);

// tile_half is tile for w [n, lanes].
void tile_half(long quads, const float *const *x, long x_step, const float *w, long n, float *y, long y_step,
	int first);

// exponential makes x e^x, for x from -87 to 0, and of smaller ones what it is for -87. (Cody and Waite 1980.)
static inline void exponential(vector *at) {
	vector x = *at;
	const float least_x = -87, magic = 0x1.8p23f; // what is added to the latter is rounded to a whole number
	integers small = x < least_x;
	x = (vector)(((integers)x & ~small) | ((integers)(least_x - (vector){}) & small));
	vector rounded = x * 0x1.715476p0f + magic, n = rounded - magic;
	vector r = x - n * 0x1.62e4p-1f - n * 0x1.7f7d1cp-20f; // two parts of the logarithm of 2
	vector p = r * 0x1.6c16c2p-10f + 0x1.111112p-7f;
	p = p * r + 0x1.555556p-5f;
	p = p * r + 0x1.555556p-3f;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	*at = (vector)((integers)p + ((integers)rounded << 23));
}

static inline long least(long a, long b) { return a < b ? a : b; }

#endif
