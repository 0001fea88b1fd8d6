// Attention of float32 on a CPU: scores are never in memory, only those of twelve queries at a time in a cache.
#include "ffi.h"
#include <math.h>
#include <string.h>

enum {
	queries_of_task = 516, // a multiple of a tile's rows
	keys_of_part = 512,    // that are summed at once: a multiple of wide
};

typedef struct {
	const float *q, *k, *v; // [batch, queries, channels], [batch, keys, channels] twice
	float *y;               // as q
	long batch, queries, keys, channels, heads, strips;
	int *failed; // there was no memory
} attention;

// softmax replaces each score s by exp((s - the largest)·scale) and returns the sum of these. There are keys scores;
// those from there up to a multiple of wide are set to 0.
vectors static float softmax(float *scores, long keys, float scale) {
	long padded = (keys + wide - 1) / wide * wide;
	for (long i = keys; i < padded; i++) scores[i] = -INFINITY;
	vector most = *(vector *)scores;
	for (long i = lanes; i < padded; i += lanes) {
		vector s = *(vector *)(scores + i);
		integers more = s > most;
		most = (vector)(((integers)s & more) | ((integers)most & ~more));
	}
	float top = most[0];
	for (int i = 1; i < lanes; i++) top = most[i] > top ? most[i] : top;
	vector sum = {};
	for (long i = 0; i < padded; i += lanes) {
		vector e = (*(vector *)(scores + i) - top) * scale;
		exponential(&e);
		*(vector *)(scores + i) = e;
		sum += e;
	}
	float total = 0;
	for (int i = 0; i < lanes; i++) total += sum[i];
	for (long i = keys; i < padded; i++) scores[i] = 0; // after 1e-38 of each, which does not change the sum
	return total;
}

// pack_keys turns a head's keys: for each wide of them, its channels one after another.
vectors static void pack_keys(float *to, const float *k, long keys, long step, long width) {
	for (long i = 0; i < keys; i += wide) {
		for (long j = 0; j < wide; j++)
			for (long c = 0; c < width; c++) to[(i * width) + c * wide + j] = i + j < keys ? k[(i + j) * step + c] : 0;
	}
}

// pack_values copies columns of a head's values, so many of each row and zeros up to padded ones.
vectors static void pack_values(float *to, const float *v, long keys, long step, long columns, long padded) {
	for (long i = 0; i < keys; i++) {
		for (long c = 0; c < columns; c++) to[i * padded + c] = v[i * step + c];
		for (long c = columns; c < padded; c++) to[i * padded + c] = 0;
	}
}

// attend_strip does a task: some queries of a head.
static void attend_strip(const void *data, long task) {
	const attention *a = data;
	long strip = task % a->strips, head = task / a->strips % a->heads, image = task / a->strips / a->heads;
	long width = a->channels / a->heads;
	long begin = strip * queries_of_task, end = least(begin + queries_of_task, a->queries);
	long keys = (a->keys + wide - 1) / wide * wide, columns = (width + lanes - 1) / lanes * lanes;
	float *k = ffi_scratch((keys * width + a->keys * columns + 3 * quad * (keys + columns)) * sizeof *k);
	if (!k) {
		*a->failed = 1;
		return;
	}
	float *v = k + keys * width, *scores = v + a->keys * columns, *y = scores + 3 * quad * keys;
	const float *from = a->q + image * a->queries * a->channels + head * width;
	float *to = a->y + image * a->queries * a->channels + head * width;
	long other = image * a->keys * a->channels + head * width;
	float scale = 1 / sqrtf(width);

	pack_keys(k, a->k + other, a->keys, a->channels, width);
	for (long c = 0; c < columns; c += wide)
		pack_values(v + c * a->keys, a->v + other + c, a->keys, a->channels, least(wide, width - c),
			least(wide, columns - c));
	for (long i = begin, quads; i < end; i += quads * quad) {
		quads = least(3, (end - i) / quad);
		const float *x[3];
		for (long q = 0; q < quads; q++) x[q] = from + (i + q * quad) * a->channels;
		for (long j = 0; j < keys; j += wide) tile(quads, x, a->channels, k + j * width, width, scores + j, keys, 1);
		float sums[3 * quad];
		for (long q = 0; q < quads * quad; q++) sums[q] = softmax(scores + q * keys, a->keys, scale);
		for (long j = 0; j < a->keys; j += keys_of_part) {
			long n = least(keys_of_part, a->keys - j);
			for (long q = 0; q < quads; q++) x[q] = scores + q * quad * keys + j;
			for (long c = 0; c < columns; c += wide) {
				if (columns - c >= wide) tile(quads, x, keys, v + c * a->keys + j * wide, n, y + c, columns, j == 0);
				else tile_half(quads, x, keys, v + c * a->keys + j * lanes, n, y + c, columns, j == 0);
			}
		}
		for (long q = 0; q < quads * quad; q++)
			for (long c = 0; c < width; c++) to[(i + q) * a->channels + c] = y[q * columns + c] / sums[q];
	}
}

// limner_attend is what XLA calls: attention of q [batch, queries, channels] to k and v [batch, keys, channels], whose
// channels are split over heads. The number of queries must be a multiple of quad.
void *limner_attend(ffi_call *f) {
	if (ffi_begin(f)) return NULL;
	int64_t heads;
	if (f->arguments.count != 3 || f->results.count != 1 || !ffi_integer(f, "heads", &heads))
		return ffi_invalid(f, "limner_attend: want three operands, a result and a number of heads");
	const ffi_buffer *q = f->arguments.buffers[0], *k = f->arguments.buffers[1], *v = f->arguments.buffers[2];
	const ffi_buffer *y = f->results.buffers[0];
	if (q->rank != 3 || k->rank != 3 || v->rank != 3 || y->rank != 3 ||
		q->dtype != ffi_f32 || k->dtype != ffi_f32 || v->dtype != ffi_f32 || y->dtype != ffi_f32)
		return ffi_invalid(f, "limner_attend: want float32 of three axes");
	int failed = 0;
	attention a = {
		.failed = &failed,
		.q = q->data, .k = k->data, .v = v->data, .y = y->data, .heads = heads,
		.batch = q->dims[0], .queries = q->dims[1], .channels = q->dims[2], .keys = k->dims[1],
	};
	if (memcmp(q->dims, y->dims, sizeof *q->dims * 3) || memcmp(k->dims, v->dims, sizeof *k->dims * 3) ||
		k->dims[0] != a.batch || k->dims[2] != a.channels ||
		a.heads < 1 || a.channels % a.heads || a.queries % quad || a.keys < 1)
		return ffi_invalid(f, "limner_attend: shapes that do not go together");
	a.strips = (a.queries + queries_of_task - 1) / queries_of_task;
	ffi_spread(f, a.batch * a.heads * a.strips, attend_strip, &a);
	return failed ? ffi_invalid(f, "limner_attend: no memory") : NULL;
}
