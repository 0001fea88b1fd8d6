// Calls the kernels as XLA does, with shapes at the borders of what they take, and compares their results with plain
// loops. It is compiled with the address and undefined-behaviour sanitizers: each array ends where its memory ends.
#include "../ffi.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *limner_convolve(ffi_call *f);
void *limner_attend(ffi_call *f);
void *limner_normalize(ffi_call *f);
int limner_amx(void);

static const char *error; // of the last call

static void *create_error(void *args) {
	error = ((ffi_error_args *)args)->message;
	return &error;
}

static void *destroy_error(void *args) {
	(void)args;
	return NULL;
}

static void *run_task(void *args) {
	ffi_schedule_args a = *(ffi_schedule_args *)args;
	free(args);
	a.task(a.data);
	return NULL;
}

static void *schedule(void *args) {
	ffi_schedule_args *copy = malloc(sizeof *copy);
	*copy = *(ffi_schedule_args *)args;
	pthread_t thread;
	if (pthread_create(&thread, NULL, run_task, copy)) return copy;
	pthread_detach(thread);
	return NULL;
}

static void *count_threads(void *args) {
	*((ffi_threads_args *)args)->threads = 3;
	return NULL;
}

static char table[256];

static float *random_floats(size_t n) {
	static uint32_t state = 1;
	float *x = malloc(n * sizeof *x);
	for (size_t i = 0; i < n; i++) {
		state = state * 1664525 + 1013904223;
		x[i] = (float)(int32_t)state / 0x1p31f;
	}
	return x;
}

typedef struct {
	ffi_buffer buffer;
	int64_t dims[4];
} array;

static array make(int rank, const int64_t *dims) {
	array a = {.buffer = {.size = sizeof a.buffer, .dtype = ffi_f32, .rank = rank}};
	size_t n = 1;
	for (int i = 0; i < rank; i++) n *= a.dims[i] = dims[i];
	a.buffer.data = random_floats(n);
	return a;
}

#define shape(...) make(sizeof((int64_t[]){__VA_ARGS__}) / 8, (int64_t[]){__VA_ARGS__})

typedef struct {
	const char *name;
	int64_t integer;
	float number;
	int dtype;
} attribute;

// run calls a kernel and says whether it took the call.
static int run(void *(*kernel)(ffi_call *), array *in, int operands, array *out, const attribute *attributes,
	int count) {
	ffi_buffer *buffers[3], *results[1] = {&out->buffer};
	ffi_name names[3], *name_at[3];
	ffi_scalar scalars[3];
	void *value_at[3];
	int types[3];
	for (int i = 0; i < operands; i++) {
		in[i].buffer.dims = in[i].dims;
		buffers[i] = &in[i].buffer;
	}
	out->buffer.dims = out->dims;
	for (int i = 0; i < count; i++) {
		names[i] = (ffi_name){attributes[i].name, strlen(attributes[i].name)};
		const attribute *a = &attributes[i];
		scalars[i] = (ffi_scalar){a->dtype, a->dtype == ffi_f32 ? (const void *)&a->number : &a->integer};
		name_at[i] = &names[i];
		value_at[i] = &scalars[i];
		types[i] = ffi_scalar_attribute;
	}
	ffi_call f = {
		.size = sizeof f,
		.api = table,
		.arguments = {.count = operands, .buffers = buffers},
		.results = {.count = 1, .buffers = results},
	};
	f.attributes.count = count;
	f.attributes.types = types;
	f.attributes.names = name_at;
	f.attributes.values = value_at;
	error = NULL;
	return kernel(&f) == NULL;
}

static int failures;

static void compare(const char *what, const float *got, const double *want, size_t n, double tolerance) {
	for (size_t i = 0; i < n; i++) {
		if (fabs(got[i] - want[i]) <= tolerance) continue;
		fprintf(stderr, "%s: element %zu is %g, want %g\n", what, i, got[i], want[i]);
		failures++;
		return;
	}
}

static void expect(const char *what, int got, int want) {
	if (got == want) return;
	fprintf(stderr, "%s: %s%s\n", what, want ? "refused: " : "taken", want && error ? error : "");
	failures++;
}

static void drop(array *arrays, int n) {
	for (int i = 0; i < n; i++) free(arrays[i].buffer.data);
}

static void convolutions(int n, int rows, int columns, int in, int size, int out, int stride, int padding, int height,
	int width) {
	array a[4] = {shape(n, rows, columns, in), shape(size, size, in, out), shape(out), shape(n, height, width, out)};
	const attribute attributes[] = {{"padding", padding, 0, ffi_s64}, {"stride", stride, 0, ffi_s64}};
	size_t total = (size_t)n * height * width * out;
	double *want = calloc(total, sizeof *want), *at = want;
	for (int i = 0; i < n; i++)
		for (int y = 0; y < height; y++)
			for (int x = 0; x < width; x++)
				for (int o = 0; o < out; o++, at++) {
					*at = a[2].buffer.data[o];
					for (int u = 0; u < size; u++)
						for (int v = 0; v < size; v++) {
							int row = y * stride + u - padding, column = x * stride + v - padding;
							if (row < 0 || row >= rows || column < 0 || column >= columns) continue;
							const float *pixel = a[0].buffer.data + (((size_t)i * rows + row) * columns + column) * in;
							const float *weights = a[1].buffer.data + ((size_t)u * size + v) * in * out;
							for (int c = 0; c < in; c++) *at += (double)pixel[c] * weights[c * out + o];
						}
				}
	expect("convolution", run(limner_convolve, a, 3, &a[3], attributes, 2), 1);
	compare("convolution", a[3].buffer.data, want, total, 1e-4);
	free(want);
	drop(a, 4);
}

static void attention(int batch, int queries, int keys, int heads, int width) {
	int channels = heads * width;
	array a[4] = {
		shape(batch, queries, channels), shape(batch, keys, channels), shape(batch, keys, channels),
		shape(batch, queries, channels),
	};
	const attribute attributes[] = {{"heads", heads, 0, ffi_s64}};
	size_t total = (size_t)batch * queries * channels;
	double *want = calloc(total, sizeof *want), *scores = calloc(keys, sizeof *scores);
	for (int b = 0; b < batch; b++)
		for (int h = 0; h < heads; h++)
			for (int q = 0; q < queries; q++) {
				double sum = 0;
				for (int k = 0; k < keys; k++) {
					double dot = 0;
					for (int c = 0; c < width; c++)
						dot += (double)a[0].buffer.data[((size_t)b * queries + q) * channels + h * width + c] *
							a[1].buffer.data[((size_t)b * keys + k) * channels + h * width + c];
					sum += scores[k] = exp(dot / sqrt(width));
				}
				for (int c = 0; c < width; c++)
					for (int k = 0; k < keys; k++)
						want[((size_t)b * queries + q) * channels + h * width + c] +=
							scores[k] / sum * a[2].buffer.data[((size_t)b * keys + k) * channels + h * width + c];
			}
	expect("attention", run(limner_attend, a, 3, &a[3], attributes, 1), 1);
	compare("attention", a[3].buffer.data, want, total, 1e-5);
	free(scores);
	free(want);
	drop(a, 4);
}

static void normalization(int n, int positions, int channels, int groups, int silu) {
	const float epsilon = 1e-5f;
	array a[4] = {shape(n, positions, channels), shape(channels), shape(channels), shape(n, positions, channels)};
	const attribute attributes[] = {
		{"epsilon", 0, epsilon, ffi_f32}, {"groups", groups, 0, ffi_s64}, {"silu", silu, 0, ffi_s64},
	};
	size_t total = (size_t)n * positions * channels;
	int group = channels / groups;
	double *want = calloc(total, sizeof *want);
	for (int i = 0; i < n; i++)
		for (int g = 0; g < groups; g++) {
			double mean = 0, variance = 0;
			const float *x = a[0].buffer.data + (size_t)i * positions * channels + g * group;
			for (int p = 0; p < positions; p++)
				for (int c = 0; c < group; c++) mean += x[p * channels + c];
			mean /= (double)positions * group;
			for (int p = 0; p < positions; p++)
				for (int c = 0; c < group; c++) variance += pow(x[p * channels + c] - mean, 2);
			variance /= (double)positions * group;
			for (int p = 0; p < positions; p++)
				for (int c = 0; c < group; c++) {
					double y = (x[p * channels + c] - mean) / sqrt(variance + epsilon);
					y = y * a[1].buffer.data[g * group + c] + a[2].buffer.data[g * group + c];
					want[((size_t)i * positions + p) * channels + g * group + c] = silu ? y / (1 + exp(-y)) : y;
				}
		}
	expect("normalization", run(limner_normalize, a, 3, &a[3], attributes, 3), 1);
	compare("normalization", a[3].buffer.data, want, total, 1e-4);
	free(want);
	drop(a, 4);
}

// refusals are calls that a kernel must not take.
static void refusals(void) {
	array a[4] = {shape(1, 4, 32), shape(1, 4, 32), shape(1, 4, 32), shape(1, 4, 32)};
	const attribute none[] = {{"head", 2, 0, ffi_s64}}, kind[] = {{"heads", 0, 2, ffi_f32}};
	const attribute odd[] = {{"heads", 5, 0, ffi_s64}}, zero[] = {{"heads", 0, 0, ffi_s64}};
	expect("attention without heads", run(limner_attend, a, 3, &a[3], none, 1), 0);
	expect("attention with heads of another type", run(limner_attend, a, 3, &a[3], kind, 1), 0);
	expect("attention with heads that do not divide", run(limner_attend, a, 3, &a[3], odd, 1), 0);
	expect("attention without a head", run(limner_attend, a, 3, &a[3], zero, 1), 0);
	expect("attention of two operands", run(limner_attend, a, 2, &a[3], odd, 1), 0);
	drop(a, 4);
}

int main(void) {
	((int *)(table + ffi_version_place))[0] = ffi_major;
	((int *)(table + ffi_version_place))[1] = ffi_minor;
	*(void *(**)(void *))(table + ffi_error_create) = create_error;
	*(void *(**)(void *))(table + ffi_error_destroy) = destroy_error;
	*(void *(**)(void *))(table + ffi_threads_schedule) = schedule;
	*(void *(**)(void *))(table + ffi_threads_count) = count_threads;

	convolutions(1, 6, 6, 3, 3, 32, 1, 0, 4, 4);
	convolutions(2, 3, 12, 32, 1, 32, 1, 0, 3, 12);
	convolutions(1, 9, 9, 16, 3, 64, 2, 0, 4, 4);
	convolutions(1, 7, 6, 130, 3, 96, 1, 0, 5, 4);
	if (limner_amx()) {
		convolutions(1, 4, 4, 32, 3, 32, 1, 1, 4, 4);
		convolutions(3, 5, 7, 64, 3, 96, 1, 1, 5, 7);
		convolutions(2, 9, 9, 32, 3, 64, 2, 1, 5, 5);
	}
	attention(1, 4, 1, 1, 1);
	attention(2, 16, 77, 2, 8);
	attention(1, 36, 36, 3, 40);
	attention(1, 520, 33, 1, 160);
	normalization(1, 1, 16, 1, 0);
	normalization(3, 1, 48, 1, 0);
	normalization(2, 5, 32, 4, 1);
	normalization(1, 4096, 64, 32, 1);
	normalization(2, 77, 96, 1, 0);
	refusals();
	return failures > 0;
}
