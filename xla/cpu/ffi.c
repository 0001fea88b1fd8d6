#define _GNU_SOURCE
#include "ffi.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int limner_wide_vectors(void) {
#ifdef has_clones
	return __builtin_cpu_supports("avx512f") != 0;
#else
	return 0;
#endif
}

// limner_ffi_accepts is 1 once a function is registered if the plugin has the version that this is written for. A
// plugin of another version drops the function without an error.
int limner_ffi_accepts;

int ffi_begin(ffi_call *f) {
	if (!f->extension || f->extension->type != ffi_metadata_extension) return 0;
	const int *version = (const int *)(f->api + ffi_version_place);
	limner_ffi_accepts = version[0] == ffi_major && version[1] == ffi_minor;
	f->extension->metadata->version.major = ffi_major;
	f->extension->metadata->version.minor = ffi_minor;
	f->extension->metadata->traits = 0;
	return 1;
}

void *ffi_invalid(const ffi_call *f, const char *message) {
	ffi_error_args args = {sizeof args, NULL, message, ffi_invalid_argument};
	return call(f->api, ffi_error_create, &args);
}

// attribute finds the scalar of that name and type; NULL if there is none.
static const void *attribute(const ffi_call *f, const char *name, int dtype) {
	for (int64_t i = 0; i < f->attributes.count; i++) {
		const ffi_name *is = f->attributes.names[i];
		if (is->size != strlen(name) || memcmp(is->text, name, is->size)) continue;
		if (f->attributes.types[i] != ffi_scalar_attribute) return NULL;
		const ffi_scalar *scalar = f->attributes.values[i];
		return scalar->dtype == dtype ? scalar->value : NULL;
	}
	return NULL;
}

int ffi_integer(const ffi_call *f, const char *name, int64_t *value) {
	const int64_t *found = attribute(f, name, ffi_s64);
	if (found) *value = *found;
	return found != NULL;
}

int ffi_number(const ffi_call *f, const char *name, float *value) {
	const float *found = attribute(f, name, ffi_f32);
	if (found) *value = *found;
	return found != NULL;
}

typedef struct {
	void (*work)(const void *data, long task);
	const void *data;
	pthread_mutex_t mutex; // of what follows
	pthread_cond_t all;    // tasks are done
	long tasks, next, done;
	long holders; // threads that still have this
} job;

// leave lets go of a job, which the last thread frees. It needs the mutex, and unlocks it.
static void leave(job *j) {
	int last = --j->holders == 0;
	pthread_mutex_unlock(&j->mutex);
	if (!last) return;
	pthread_mutex_destroy(&j->mutex);
	pthread_cond_destroy(&j->all);
	free(j);
}

// finish does tasks until none is left to begin.
static void finish(void *data) {
	job *j = data;
	pthread_mutex_lock(&j->mutex);
	while (j->next < j->tasks) {
		long task = j->next++;
		pthread_mutex_unlock(&j->mutex);
		j->work(j->data, task);
		pthread_mutex_lock(&j->mutex);
		if (++j->done == j->tasks) pthread_cond_signal(&j->all);
	}
	leave(j);
}

static void drop(const ffi_call *f, void *error) {
	ffi_error_destroy_args args = {sizeof args, NULL, error};
	if (error) call(f->api, ffi_error_destroy, &args);
}

long ffi_threads(const ffi_call *f) {
	int64_t threads = 1;
	ffi_threads_args count = {sizeof count, NULL, f->context, &threads};
	drop(f, call(f->api, ffi_threads_count, &count)); // there are no others
	return threads;
}

void *ffi_scratch(size_t bytes) {
	static __thread void *memory;
	static __thread size_t size;
	if (bytes > size) {
		free(memory);
		size = 0;
		memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
		if (memory) size = bytes;
	}
	return memory;
}

void ffi_spread(const ffi_call *f, long tasks, void (*work)(const void *data, long task), const void *data) {
	job *j = tasks > 1 ? calloc(1, sizeof *j) : NULL;
	if (!j) {
		for (long task = 0; task < tasks; task++) work(data, task);
		return;
	}
	void *failed = NULL;
	long threads = least(ffi_threads(f), tasks);
	j->work = work;
	j->data = data;
	j->tasks = tasks;
	pthread_mutex_init(&j->mutex, NULL);
	pthread_cond_init(&j->all, NULL);
	j->holders = threads + 1; // this one until all is done, too
	for (long other = 1; other < threads; other++) {
		ffi_schedule_args args = {sizeof args, NULL, f->context, finish, j};
		if (!failed) failed = call(f->api, ffi_threads_schedule, &args);
		if (!failed) continue;
		pthread_mutex_lock(&j->mutex);
		j->holders--;
		pthread_mutex_unlock(&j->mutex);
	}
	drop(f, failed); // there are fewer threads
	finish(j);
	pthread_mutex_lock(&j->mutex);
	while (j->done < j->tasks) pthread_cond_wait(&j->all, &j->mutex);
	leave(j);
}

#define unrolled _Pragma("GCC unroll 16")

// DEFINE_TILE defines a tile of so many quads of rows and vectors of columns.
#define DEFINE_TILE(name, quads, columns) \
	vectors static void name(const float *const *x, long x_step, const float *w, long n, float *y, long y_step, \
		int first) { \
		vector sum[quad * quads][columns]; \
		const float *at[quads]; \
		unrolled for (int q = 0; q < quads; q++) at[q] = x[q]; \
		unrolled for (int i = 0; i < quad * quads; i++) { \
			unrolled for (int j = 0; j < columns; j++) sum[i][j] = (vector){}; \
		} \
		for (long k = 0; k < n; k++, w += columns * lanes) { \
			vector row[columns]; \
			unrolled for (int j = 0; j < columns; j++) row[j] = *(const vector *)(w + j * lanes); \
			unrolled for (int q = 0; q < quads; q++) { \
				unrolled for (int i = 0; i < quad; i++) { \
					vector element = at[q][i * x_step] - (vector){}; \
					unrolled for (int j = 0; j < columns; j++) sum[quad * q + i][j] += element * row[j]; \
				} \
				at[q]++; \
			} \
		} \
		unrolled for (int i = 0; i < quad * quads; i++) { \
			unrolled for (int j = 0; j < columns; j++) { \
				vector *to = (vector *)(y + i * y_step + j * lanes); \
				if (!first) sum[i][j] += *to; \
				*to = sum[i][j]; \
			} \
		} \
	}

DEFINE_TILE(tile3, 3, 2)
DEFINE_TILE(tile2, 2, 2)
DEFINE_TILE(tile1, 1, 2)
DEFINE_TILE(half3, 3, 1)
DEFINE_TILE(half2, 2, 1)
DEFINE_TILE(half1, 1, 1)

void tile(long quads, const float *const *x, long x_step, const float *w, long n, float *y, long y_step, int first) {
	(quads == 3 ? tile3 : quads == 2 ? tile2 : tile1)(x, x_step, w, n, y, y_step, first);
}

void tile_half(long quads, const float *const *x, long x_step, const float *w, long n, float *y, long y_step,
	int first) {
	(quads == 3 ? half3 : quads == 2 ? half2 : half1)(x, x_step, w, n, y, y_step, first);
}
