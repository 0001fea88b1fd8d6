// What is done to every sample of an image, in loops that the compiler turns into vector instructions. Callers check
// sizes; all arithmetic is on whole numbers, or rounded as IEEE 754 has it, so that every processor gives the same.
#ifndef LIMNER_IMAGING_VECTOR_H
#define LIMNER_IMAGING_VECTOR_H

#include <stdint.h>

// Loops are compiled for processors with wide vectors as well, where the C library can choose when the program starts.
#if defined __x86_64__ && defined __GLIBC__ && defined __has_attribute
#if __has_attribute(target_clones)
#define vectors __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef vectors
#define vectors
#endif

// resizing is a pass of resizing RGB in one direction: number i of size results is the sum of taps inputs from
// first[i] on, times weights [size, taps], in fixed point. All inputs are within the image.
typedef struct {
	const uint8_t *from; // rows of stride bytes
	uint8_t *to;         // rows of size pixels, or size rows of stride bytes
	long stride, size, taps;
	const int32_t *first, *weights;
} resizing;

// limner_resize_rows resizes each of so many rows to size pixels. pairs, or NULL, are the weights for processors with
// wide vectors, as limner_resize_wide says: for each result (taps + 1) / 2 times three times one weight, thrice
// the next, or zero, and two zeros.
void limner_resize_rows(const resizing *r, long rows, const int32_t *pairs);

// limner_resize_columns makes size rows, by wide vectors or without.
void limner_resize_columns(const resizing *r, int wide);

int limner_resize_wide(void);

// limner_idct transforms so many blocks [blocks, 8, 8] of a JPEG's coefficients, which are to be multiplied by
// quantization [8, 8], to samples side by side, in rows of stride.
void limner_idct(const int16_t *coefficients, const uint16_t *quantization, long blocks, uint8_t *to, long stride);

// planes are those of a JPEG. Chroma has one sample for step_x by step_y pixels: steps of 1 or 2, or 4 in x.
typedef struct {
	const uint8_t *luma, *blue, *red;
	long luma_stride, chroma_stride;
	long width, height; // of the picture
	int step_x, step_y;
} planes;

// limner_ycc converts planes to RGB, with scratch of limner_ycc_scratch bytes.
void limner_ycc(const planes *p, uint16_t *scratch, uint8_t *to);
long limner_ycc_scratch(long width, int step_x);

// limner_unfilter undoes PNG's filters: rows [rows, 1 + bytes], each with its filter before it, to rows [rows, bytes]
// of pixels of bpp bytes, 1, 3 or 4. above is a row of zeros. It returns 0 where a filter is not known, else 1.
int limner_unfilter(const uint8_t *from, uint8_t *to, const uint8_t *above, long rows, long bytes, int bpp);

// limner_filter filters a row of n bytes of RGB for PNG, with the row above it, by the filter that leaves the least: to
// has a byte with its number, and the row. scratch has room for five rows.
void limner_filter(const uint8_t *from, const uint8_t *above, uint8_t *to, long n, uint8_t *scratch);

// limner_floats writes n samples as floats in [0, 1], limner_signed_floats in [-1, 1].
void limner_floats(const uint8_t *from, float *to, long n);
void limner_signed_floats(const uint8_t *from, float *to, long n);

#endif
