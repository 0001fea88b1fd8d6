package pjrt

// #cgo CFLAGS: -O3
// #cgo LDFLAGS: -lm
// #include <stdlib.h>
// #include "api.h"
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

import "unsafe"

// The names under which programs call the functions that RegisterFunctions registers, in C's order.
const (
	// Convolve is the convolution of x [batch, rows, columns, in] by w [size, size, in, out], plus a bias [out] if it is given one, with attributes padding
	// (zeros before rows and columns; those after them follow from the result's shape) and stride. It takes out in multiples of ConvolveWide; with a
	// MatrixUnit in in such multiples too, and else no padding and lines of the result in multiples of Quad.
	Convolve = "limner_convolve"
	// Attend is attention of q [batch, queries, channels] to k and v [batch, keys, channels], with an attribute heads, over which the channels are split. It
	// takes queries in multiples of Quad.
	Attend = "limner_attend"
	// Normalize is group normalisation of x [batch, positions, channels] with a scale and a shift [channels], and attributes epsilon, groups, and silu, which
	// is 1 for SiLU of it. It takes channels in multiples of Lanes.
	Normalize = "limner_normalize"
)

// What the functions take.
const (
	Lanes        = 16
	Quad         = 4
	ConvolveWide = 32
)

// RegisterFunctions lets programs of the CPU plugin call our own functions on float32. It fails where the plugin does not take any, or those of another version.
func (t Table) RegisterFunctions() error {
	extension := t.extension(C.extension_ffi)
	if extension == nil {
		return &Error{Code: unimplemented, Text: "the plugin takes no functions"}
	}
	for i, function := range []string{Convolve, Attend, Normalize} {
		if err := t.register(extension, function, C.function_at(C.int(i))); err != nil {
			return err
		}
	}
	if C.limner_ffi_accepts == 0 {
		return &Error{Code: unimplemented, Text: "the plugin takes functions of another version"}
	}
	return nil
}

const unimplemented = 12

func (t Table) register(extension unsafe.Pointer, function string, address unsafe.Pointer) error {
	const host = "Host"
	name, platform := C.CString(function), C.CString(host)
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(platform))
	args := allocate[C.register_handler_args]()
	defer release(args)
	args.name, args.name_size, args.handler = name, C.size_t(len(function)), address
	args.platform, args.platform_size = platform, C.size_t(len(host))
	return t.taken(C.call(extension, C.ffi_register_handler, unsafe.Pointer(args)))
}

// WideVectors says that the processor has the vector instructions with which our functions are faster than what XLA makes.
func WideVectors() bool { return C.limner_wide_vectors() != 0 }

// MatrixUnit says that the processor has a unit for products of matrices, which the system lends.
func MatrixUnit() bool { return C.limner_amx() != 0 }

// extension finds a part of the table that not every plugin has; nil if it has none of that type.
func (t Table) extension(kind C.int) unsafe.Pointer {
	for p := *(*unsafe.Pointer)(unsafe.Add(t.c, 8)); p != nil; p = *(*unsafe.Pointer)(unsafe.Add(p, 16)) {
		if *(*C.int)(unsafe.Add(p, 8)) == kind {
			return p
		}
	}
	return nil
}
