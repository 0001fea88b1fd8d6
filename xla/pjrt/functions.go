package pjrt

/*
#include <stdlib.h>
#include "api.h"
*/
import "C"

import "unsafe"

const unimplemented = 12

// RegisterFunction lets programs of a CPU plugin call a C function of XLA_FFI's form under a name. It fails where the
// plugin takes none.
func (t Table) RegisterFunction(name string, function unsafe.Pointer) error {
	const host = "Host"
	extension := t.extension(C.extension_ffi)
	if extension == nil {
		return &Error{Code: unimplemented, Text: "the plugin takes no functions"}
	}
	cName, platform := C.CString(name), C.CString(host)
	defer C.free(unsafe.Pointer(cName))
	defer C.free(unsafe.Pointer(platform))
	args := allocate[C.register_handler_args]()
	defer release(args)
	args.name, args.name_size, args.handler = cName, C.size_t(len(name)), function
	args.platform, args.platform_size = platform, C.size_t(len(host))
	return t.taken(C.call(extension, C.ffi_register_handler, unsafe.Pointer(args)))
}

// extension finds a part of the table that not every plugin has; nil if it has none of that type.
func (t Table) extension(kind C.int) unsafe.Pointer {
	for p := *(*unsafe.Pointer)(unsafe.Add(t.c, 8)); p != nil; p = *(*unsafe.Pointer)(unsafe.Add(p, 16)) {
		if *(*C.int)(unsafe.Add(p, 8)) == kind {
			return p
		}
	}
	return nil
}
