#ifndef LIMNER_CONVOLVE_H
#define LIMNER_CONVOLVE_H

#include "ffi.h"

typedef struct {
	const float *x, *w, *bias; // [n, rows, columns, in], [size, size, in, out], [out] or NULL
	float *y;                  // [n, height, width, out]
	long n, rows, columns, in, size, height, width, out, stride;
	long padding; // zeros before rows and columns; what is missing after them is 0 too
} convolution;

// limner_amx asks the system for the processor's matrix unit, once, and says whether there is one.
int limner_amx(void);

// amx_takes says whether it takes a convolution.
int amx_takes(const convolution *c);

// amx_convolve does what it takes, and says whether there was memory for it.
int amx_convolve(const ffi_call *f, const convolution *c);

#endif
