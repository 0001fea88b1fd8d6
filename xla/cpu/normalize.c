// Group and layer normalisation of float32 on a CPU: XLA turns each into seven to nine programs, which take long to
// compile.
#include "ffi.h"
#include <math.h>
#include <string.h>

enum { floats_of_task = 1 << 14 }; // about: they stay in the second cache

typedef struct {
	const float *x, *scale, *shift; // [n, positions, channels], [channels] twice
	float *y;                       // as x
	long n, positions, channels, groups, strips, rows; // of a strip
	int silu;
	float epsilon;
	float *statistics; // [n, strips, 2, channels]: a strip's means, and the sums of its squared distances from them
	float *moments;    // [n, 2, channels]: mean and 1/σ, times scale, of a channel's group
} normalization;

// write makes y of a vector of x.
static inline void write(vector *y, const vector *x, const float *mean, const float *factor, const float *shift,
	int silu) {
	vector h = (*x - *(const vector *)mean) * *(const vector *)factor + *(const vector *)shift;
	if (silu) {
		integers negative = h < 0;
		vector e = (vector)((integers)h | INT32_MIN); // e^-|h| does not overflow
		exponential(&e);
		vector top = (vector)(((integers)e & negative) | ((integers)(1 - (vector){}) & ~negative));
		h *= top / (1 + e);
	}
	*y = h;
}

// measure_strip does a task: a strip's statistics.
vectors static void measure_strip(const void *data, long task) {
	const normalization *a = data;
	long begin = task % a->strips * a->rows, rows = least(a->rows, a->positions - begin), c = a->channels;
	const float *x = a->x + (task / a->strips * a->positions + begin) * c;
	float *mean = a->statistics + task * 2 * c, *squares = mean + c;
	for (long j = 0; j < c; j += lanes) {
		vector sum = {}, square = {};
		for (long i = 0; i < rows; i++) sum += *(const vector *)(x + i * c + j);
		sum /= (float)rows;
		for (long i = 0; i < rows; i++) {
			vector d = *(const vector *)(x + i * c + j) - sum;
			square += d * d;
		}
		*(vector *)(mean + j) = sum;
		*(vector *)(squares + j) = square;
	}
}

// combine makes an image's moments of the statistics of its strips. (Chan et al. 1979.)
static void combine(const normalization *a, long image) {
	long c = a->channels, width = c / a->groups;
	const float *statistics = a->statistics + image * a->strips * 2 * c;
	float *mean = a->moments + image * 2 * c, *factor = mean + c;
	double count = (double)a->positions * width;
	for (long g = 0; g < c; g += width) {
		double sum = 0, squares = 0;
		for (long s = 0; s < a->strips; s++) {
			double rows = least(a->rows, a->positions - s * a->rows);
			for (long j = g; j < g + width; j++) sum += rows * statistics[s * 2 * c + j];
		}
		double mu = sum / count;
		for (long s = 0; s < a->strips; s++) {
			double rows = least(a->rows, a->positions - s * a->rows);
			for (long j = g; j < g + width; j++) {
				double d = statistics[s * 2 * c + j] - mu;
				squares += statistics[(s * 2 + 1) * c + j] + rows * d * d;
			}
		}
		for (long j = g; j < g + width; j++) {
			mean[j] = mu;
			factor[j] = a->scale[j] / sqrt(squares / count + a->epsilon);
		}
	}
}

// apply_strip does a task: a strip of y.
vectors static void apply_strip(const void *data, long task) {
	const normalization *a = data;
	long begin = task % a->strips * a->rows, rows = least(a->rows, a->positions - begin);
	long c = a->channels, image = task / a->strips;
	const float *mean = a->moments + image * 2 * c, *factor = mean + c;
	long at = (image * a->positions + begin) * c;
	for (long i = 0; i < rows; i++, at += c)
		for (long j = 0; j < c; j += lanes)
			write((vector *)(a->y + at + j), (const vector *)(a->x + at + j), mean + j, factor + j, a->shift + j,
				a->silu);
}

// sum_of adds the elements of a vector.
static inline float sum_of(const vector *v) {
	float sum = 0;
	for (int i = 0; i < lanes; i++) sum += (*v)[i];
	return sum;
}

// normalize_rows does a task: rows that are normalised each by itself.
vectors static void normalize_rows(const void *data, long task) {
	const normalization *a = data;
	long begin = task * a->rows, end = least(begin + a->rows, a->n), c = a->channels;
	for (long i = begin; i < end; i++) {
		const float *x = a->x + i * c;
		vector sum = {}, square = {};
		for (long j = 0; j < c; j += lanes) sum += *(const vector *)(x + j);
		vector mean = sum_of(&sum) / c - (vector){};
		for (long j = 0; j < c; j += lanes) {
			vector d = *(const vector *)(x + j) - mean;
			square += d * d;
		}
		float factor = 1 / sqrtf(sum_of(&square) / c + a->epsilon);
		for (long j = 0; j < c; j += lanes) {
			vector scale = *(const vector *)(a->scale + j) * factor;
			write((vector *)(a->y + i * c + j), (const vector *)(x + j), (float *)&mean, (float *)&scale, a->shift + j,
				a->silu);
		}
	}
}

// limner_normalize is what XLA calls: x [n, positions, channels] brought to mean 0 and variance 1 over the positions
// and each group of channels, times scale and plus shift, one of each per channel; with silu not 0, SiLU of that. The
// number of channels must be a multiple of lanes.
void *limner_normalize(ffi_call *f) {
	if (ffi_begin(f)) return NULL;
	float epsilon;
	int64_t groups, silu;
	if (f->arguments.count != 3 || f->results.count != 1 || !ffi_number(f, "epsilon", &epsilon) ||
		!ffi_integer(f, "groups", &groups) || !ffi_integer(f, "silu", &silu))
		return ffi_invalid(f, "limner_normalize: want three operands, a result, epsilon, groups and silu");
	const ffi_buffer *x = f->arguments.buffers[0], *scale = f->arguments.buffers[1], *shift = f->arguments.buffers[2];
	const ffi_buffer *y = f->results.buffers[0];
	if (x->rank != 3 || scale->rank != 1 || shift->rank != 1 || y->rank != 3 ||
		x->dtype != ffi_f32 || scale->dtype != ffi_f32 || shift->dtype != ffi_f32 || y->dtype != ffi_f32)
		return ffi_invalid(f, "limner_normalize: want float32 of three axes, and of one");
	normalization a = {
		.x = x->data, .scale = scale->data, .shift = shift->data, .y = y->data,
		.n = x->dims[0], .positions = x->dims[1], .channels = x->dims[2],
		.epsilon = epsilon, .groups = groups, .silu = silu != 0,
	};
	if (memcmp(x->dims, y->dims, sizeof *x->dims * 3) || scale->dims[0] != a.channels ||
		shift->dims[0] != a.channels || a.groups < 1 || a.channels % a.groups ||
		a.channels % lanes || a.channels < 1 || a.positions < 1)
		return ffi_invalid(f, "limner_normalize: shapes that do not go together");
	a.rows = floats_of_task / a.channels + 1;
	if (a.positions == 1 && a.groups == 1) {
		ffi_spread(f, (a.n + a.rows - 1) / a.rows, normalize_rows, &a);
		return NULL;
	}
	a.rows = least(a.rows, a.positions);
	a.strips = (a.positions + a.rows - 1) / a.rows;
	a.statistics = ffi_scratch((a.strips + 1) * a.n * 2 * a.channels * sizeof *a.statistics);
	if (!a.statistics) return ffi_invalid(f, "limner_normalize: no memory");
	a.moments = a.statistics + a.strips * a.n * 2 * a.channels;
	ffi_spread(f, a.n * a.strips, measure_strip, &a);
	for (long image = 0; image < a.n; image++) combine(&a, image);
	ffi_spread(f, a.n * a.strips, apply_strip, &a);
	return NULL;
}
