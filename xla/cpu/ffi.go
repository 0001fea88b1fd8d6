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
	// convolution maps x [batch, rows, columns, in] and w [size, size, in, out], plus a bias [out] if it is given one,
	// with attributes padding (zeros before rows and columns; those after them follow from the result's shape) and
	// stride. It takes out in multiples of convolveWide; with a matrixUnit in in such multiples too, and else no
	// padding and lines of the result in multiples of quad.
	convolution = "limner_convolve"
	// attention maps q [batch, queries, channels], k and v [batch, keys, channels], with an attribute heads, over which
	// the channels are split. It takes queries in multiples of quad.
	attention = "limner_attend"
	// normalization is group normalization of x [batch, positions, channels] with a scale and a shift [channels], and
	// attributes epsilon, groups, and silu, which is 1 for SiLU of it. It takes channels in multiples of lanes.
	normalization = "limner_normalize"
)

// What the functions take.
const (
	lanes        = 16
	quad         = 4
	convolveWide = 32
)

// register lets programs of the CPU plugin call our own functions on float32. It fails where the plugin takes none, or
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

// wideVectors reports whether the processor has the vector instructions with which our functions are faster than what
// XLA makes.
func wideVectors() bool { return C.limner_wide_vectors() != 0 }

// matrixUnit reports whether the processor has a unit for products of matrices, which the system lends.
func matrixUnit() bool { return C.limner_amx() != 0 }
