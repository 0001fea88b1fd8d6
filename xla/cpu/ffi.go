package cpu

// #cgo CFLAGS: -O3
// #cgo LDFLAGS: -lm
//
// extern int limner_ffi_accepts;
// int limner_wide_vectors(void);
// int limner_amx(void);
// void *limner_convolve(void *f);
// void *limner_attend(void *f);
// void *limner_normalize(void *f);
//
// static void *function_at(int i) { return (void *[]){limner_convolve, limner_attend, limner_normalize}[i]; }
import "C"

import (
	"errors"

	"limner/xla/pjrt"
)

// The names under which programs call the functions that register registers, in C's order.
const (
	// convolution maps x [batch, rows, columns, in] and w [size, size, in, out], plus an optional bias [out], with
	// attributes padding (zeros before rows and columns; those after them follow from the result's shape) and stride.
	// out must be a multiple of convolveWide. With a matrixUnit in must be one too; else there must be no padding, and
	// the width of the result must be a multiple of quad.
	convolution = "limner_convolve"
	// attention maps q [batch, queries, channels], k and v [batch, keys, channels], with an attribute heads, over which
	// the channels are split. The number of queries must be a multiple of quad.
	attention = "limner_attend"
	// normalization is group normalization of x [batch, positions, channels] with a scale and a shift [channels], and
	// attributes epsilon, groups, and silu, which is 1 to apply SiLU to the result. The number of channels must be a
	// multiple of lanes.
	normalization = "limner_normalize"
)

// The multiples that the functions need.
const (
	lanes        = 16
	quad         = 4
	convolveWide = 32
)

// register lets programs of the CPU plugin call our own float32 functions. It fails if the plugin takes none, or only
// those of another version.
func register(t pjrt.Table) error {
	for i, name := range []string{convolution, attention, normalization} {
		if err := t.RegisterFunction(name, C.function_at(C.int(i))); err != nil {
			return err
		}
	}
	if C.limner_ffi_accepts == 0 {
		return errors.New("the plugin takes functions of another version")
	}
	return nil
}

// wideVectors reports whether the processor has the vector instructions with which our functions are faster than XLA's
// code.
func wideVectors() bool { return C.limner_wide_vectors() != 0 }

// matrixUnit reports whether the processor has a unit for products of matrices that the system lets us use.
func matrixUnit() bool { return C.limner_amx() != 0 }
