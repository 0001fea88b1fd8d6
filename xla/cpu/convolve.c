// Convolutions of float32 on a CPU: XLA's own reach half of what the processor can do.
#include "convolve.h"
#include <string.h>

// A convolution is a sum of products of matrices over the elements of the kernel, its taps: the pixels [pixels, in]
// that a tap meets times its weights [in, out]. The weights of a few tiles for a part of in fit the nearest caches, one
// tile's after another's, and are used for many pixels.
enum {
	abreast = 2, // tiles of outputs, of which a task has the weights
	depth = 320, // of in at once, at most
	strip = 516, // pixels of a task: a multiple of a tile's
};

// pack copies the weights of some tiles of outputs.
vectors static void pack(float *to, const float *w, long n, long out, long tiles) {
	for (long k = 0; k < n; k++, w += out)
		for (long t = 0; t < tiles; t++) {
			const float *from = w + t * wide;
			__builtin_prefetch(from + 8 * out);
			__builtin_prefetch(from + 8 * out + lanes);
			vector *packed = (vector *)(to + (t * n + k) * wide);
			packed[0] = *(const vector *)from;
			packed[1] = *(const vector *)(from + lanes);
		}
}

static long strips_of(const convolution *c) { return (c->n * c->height * c->width + strip - 1) / strip; }

// convolve_strip does a task: some outputs of a strip of pixels.
static void convolve_strip(const void *data, long task) {
	const convolution *c = data;
	float weights[abreast * depth * wide] __attribute__((aligned(64)));
	long strips = strips_of(c), output = task / strips * abreast * wide;
	long tiles = least(abreast, (c->out - output) / wide);
	long begin = task % strips * strip, end = least(begin + strip, c->n * c->height * c->width);
	long parts = (c->in + depth - 1) / depth, part = (c->in + parts - 1) / parts;
	for (long pixel = begin; c->bias && pixel < end; pixel++)
		memcpy(c->y + pixel * c->out + output, c->bias + output, tiles * wide * sizeof *c->y);
	for (long tap = 0; tap < c->size * c->size; tap++)
		for (long k = 0; k < c->in; k += part) {
			long n = least(part, c->in - k);
			pack(weights, c->w + (tap * c->in + k) * c->out + output, n, c->out, tiles);
			for (long pixel = begin, quads; pixel < end; pixel += quads * quad) {
				quads = least(3, (end - pixel) / quad);
				const float *x[3];
				for (long q = 0; q < quads; q++) {
					long at = pixel + q * quad, line = at / c->width;
					long row = line % c->height * c->stride + tap / c->size;
					long column = at % c->width * c->stride + tap % c->size;
					x[q] = c->x + ((line / c->height * c->rows + row) * c->columns + column) * c->in + k;
				}
				for (long t = 0; t < tiles; t++)
					tile(quads, x, c->stride * c->in, weights + t * n * wide, n,
						c->y + pixel * c->out + output + t * wide, c->out, !c->bias && tap == 0 && k == 0);
			}
		}
}

// limner_convolve is what XLA calls: x [n, rows, columns, in] convolved by w [size, size, in, out], at a stride, plus a
// bias [out] if there is one. out must be a multiple of wide. Where there is no matrix unit or in is not a multiple of
// 32, there must be no padding, and the width of y must be a multiple of quad.
void *limner_convolve(ffi_call *f) {
	if (ffi_begin(f)) return NULL;
	long operands = f->arguments.count;
	int64_t padding, stride;
	if (operands < 2 || operands > 3 || f->results.count != 1 || !ffi_integer(f, "padding", &padding) ||
		!ffi_integer(f, "stride", &stride))
		return ffi_invalid(f, "limner_convolve: want two or three operands, a result, padding and stride");
	const ffi_buffer *x = f->arguments.buffers[0], *w = f->arguments.buffers[1], *y = f->results.buffers[0];
	const ffi_buffer *bias = operands > 2 ? f->arguments.buffers[2] : NULL;
	if (x->rank != 4 || w->rank != 4 || y->rank != 4 ||
		x->dtype != ffi_f32 || w->dtype != ffi_f32 || y->dtype != ffi_f32)
		return ffi_invalid(f, "limner_convolve: want float32 of four axes");
	convolution c = {
		.x = x->data, .w = w->data, .y = y->data, .bias = bias ? bias->data : NULL,
		.padding = padding, .stride = stride,
		.n = x->dims[0], .rows = x->dims[1], .columns = x->dims[2], .in = x->dims[3],
		.size = w->dims[0], .height = y->dims[1], .width = y->dims[2], .out = y->dims[3],
	};
	if (w->dims[1] != c.size || w->dims[2] != c.in || w->dims[3] != c.out || y->dims[0] != c.n ||
		c.stride < 1 || c.padding < 0 ||
		(bias && (bias->rank != 1 || bias->dtype != ffi_f32 || bias->dims[0] != c.out)))
		return ffi_invalid(f, "limner_convolve: shapes that do not go together");
	if (amx_takes(&c)) return amx_convolve(f, &c) ? NULL : ffi_invalid(f, "limner_convolve: no memory");
	if (c.out % wide || c.width % quad || c.padding ||
		(c.height - 1) * c.stride + c.size > c.rows || (c.width - 1) * c.stride + c.size > c.columns)
		return ffi_invalid(f, "limner_convolve: shapes that this processor does not take");
	ffi_spread(f, strips_of(&c) * ((c.out / wide + abreast - 1) / abreast), convolve_strip, &c);
	return NULL;
}
