// Package pjrt calls PJRT plugins through their C API: their devices, arrays on them, programs that they compile, load
// and run, and topologies of devices that are not there.
package pjrt

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "api.h"

static const void *table_of(void *library) {
	const void *(*get)(void) = dlsym(library, "GetPjrtApi");
	return get ? get() : NULL;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// Table is a plugin's table of functions. It is valid until the process ends: plugins cannot be unloaded.
type Table struct {
	c unsafe.Pointer
}

// majorVersion is that of the C API whose structures this package fills in. Minor versions only add to them.
const majorVersion = 0

// Load loads a plugin's library. It fails where the library is no plugin, or one of another major version of the C API.
func Load(path string) (Table, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	library := C.dlopen(name, C.RTLD_LAZY|C.RTLD_LOCAL)
	if library == nil {
		return Table{}, fmt.Errorf("load %s: %s", path, C.GoString(C.dlerror()))
	}
	t := Table{unsafe.Pointer(C.table_of(library))}
	if t.c == nil {
		return t, fmt.Errorf("load %s: it is no PJRT plugin: it has no GetPjrtApi", path)
	}
	if major, minor := t.Version(); major != majorVersion {
		return t, fmt.Errorf("load %s: it has PJRT API %d.%d, limner calls version %d: use another plugin",
			path, major, minor, majorVersion)
	}
	return t, nil
}

// Address is where the table lies.
func (t Table) Address() uintptr { return uintptr(t.c) }

// Version is that of the C API which the plugin was built for.
func (t Table) Version() (major, minor int) {
	version := (*[2]C.int)(unsafe.Add(t.c, 16+16)) // behind the version's own size and extension
	return int(version[0]), int(version[1])
}

// Initialize prepares the plugin, once, before anything else is asked of it.
func (t Table) Initialize() error {
	args := (*C.object_args)(zeroed(16))
	defer C.free(unsafe.Pointer(args))
	return t.call(C.plugin_initialize, unsafe.Pointer(args))
}

// zeroed allocates the arguments of a call, which C may keep pointers in, with their size in front.
func zeroed(size uintptr) unsafe.Pointer {
	p := C.calloc(1, C.size_t(size))
	*(*C.size_t)(p) = C.size_t(size)
	return p
}

// allocate is zeroed for a structure.
func allocate[T any]() *T {
	var t T
	return (*T)(zeroed(unsafe.Sizeof(t)))
}

// release frees what allocate gave.
func release[T any](p *T) { C.free(unsafe.Pointer(p)) }

// Error is what a plugin says of a failed call.
type Error struct {
	Code int // of absl's status: 3 invalid argument, 8 out of a resource, 12 not implemented, 13 internal
	Text string
}

// ResourceExhausted is the code of a program that does not fit the devices' memory.
const ResourceExhausted = 8

func (e *Error) Error() string { return e.Text }

// call calls the function at a place of the table.
func (t Table) call(place C.size_t, args unsafe.Pointer) error {
	if size := *(*C.size_t)(t.c); size < place+8 {
		major, minor := t.Version()
		return fmt.Errorf("the plugin (PJRT API %d.%d) is too old for this: use a newer one", major, minor)
	}
	return t.taken(C.call(t.c, place, args))
}

// taken turns an error of the plugin's into ours and frees it.
func (t Table) taken(failed unsafe.Pointer) error {
	if failed == nil {
		return nil
	}
	message, code, destroy := allocate[C.error_message_args](), allocate[C.error_code_args](), allocate[C.object_args]()
	defer release(message)
	defer release(code)
	defer release(destroy)
	message.error, code.error, destroy.in = failed, failed, failed
	destroy.size = 24
	C.call(t.c, C.error_message, unsafe.Pointer(message))
	C.call(t.c, C.error_code, unsafe.Pointer(code))
	e := &Error{Code: int(code.code), Text: C.GoStringN(message.text, C.int(message.text_size))}
	C.call(t.c, C.error_destroy, unsafe.Pointer(destroy))
	return e
}

// object calls a function that takes an object and gives one.
func (t Table) object(place C.size_t, in unsafe.Pointer) (unsafe.Pointer, error) {
	args := allocate[C.object_args]()
	defer release(args)
	args.in = in
	err := t.call(place, unsafe.Pointer(args))
	return args.out, err
}

// act calls a function that takes an object and gives nothing.
func (t Table) act(place C.size_t, in unsafe.Pointer) error {
	args := allocate[C.object_args]()
	defer release(args)
	args.size, args.in = 24, in
	return t.call(place, unsafe.Pointer(args))
}

// await waits for an event and frees it.
func (t Table) await(event unsafe.Pointer) error {
	return errors.Join(t.act(C.event_await, event), t.act(C.event_destroy, event))
}

// number calls a function that takes an object and gives a number.
func (t Table) number(place C.size_t, in unsafe.Pointer) (int, error) {
	args := allocate[C.number_args]()
	defer release(args)
	args.size, args.in = 28, in // without what fills the structure up
	err := t.call(place, unsafe.Pointer(args))
	return int(args.out), err
}

// text calls a function that takes an object and gives a text.
func (t Table) text(place C.size_t, in unsafe.Pointer) (string, error) {
	args := allocate[C.text_args]()
	defer release(args)
	args.in = in
	if err := t.call(place, unsafe.Pointer(args)); err != nil {
		return "", err
	}
	return C.GoStringN(args.text, C.int(args.text_size)), nil
}

// devices lists those of a client, or the descriptions of those of a topology.
func (t Table) devices(place C.size_t, owner unsafe.Pointer) ([]unsafe.Pointer, error) {
	args := allocate[C.devices_args]()
	defer release(args)
	args.owner = owner
	if err := t.call(place, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	return append([]unsafe.Pointer(nil), unsafe.Slice((*unsafe.Pointer)(unsafe.Pointer(args.devices)),
		int(args.count))...), nil
}

// values reads named numbers; others are left out.
func values(first *C.named_value, count C.size_t) map[string]float64 {
	out := make(map[string]float64, int(count))
	for _, v := range unsafe.Slice(first, int(count)) {
		name := C.GoStringN(v.name, C.int(v.name_size))
		switch raw := unsafe.Pointer(&v.anon0); v._type {
		case C.value_integer:
			out[name] = float64(*(*int64)(raw))
		case C.value_number:
			out[name] = float64(*(*float32)(raw))
		}
	}
	return out
}

// namedValues lays out options for a call: int64, []int64 or string. The second result frees them.
func namedValues(options []Option) (*C.named_value, func()) {
	var kept []unsafe.Pointer
	keep := func(p unsafe.Pointer) unsafe.Pointer { kept = append(kept, p); return p }
	list := (*C.named_value)(keep(C.calloc(C.size_t(max(1, len(options))), C.sizeof_named_value)))
	for i, o := range options {
		v := &unsafe.Slice(list, len(options))[i]
		v.size = C.sizeof_named_value
		v.name = (*C.char)(keep(unsafe.Pointer(C.CString(o.Name))))
		v.name_size = C.size_t(len(o.Name))
		v.value_size = 1
		raw := unsafe.Pointer(&v.anon0)
		switch x := o.Value.(type) {
		case string:
			v._type, v.value_size = C.value_string, C.size_t(len(x))
			*(**C.char)(raw) = (*C.char)(keep(unsafe.Pointer(C.CString(x))))
		case int64:
			v._type = C.value_integer
			*(*int64)(raw) = x
		case []int64:
			v._type, v.value_size = C.value_integers, C.size_t(len(x))
			p := keep(C.calloc(C.size_t(len(x)), 8))
			copy(unsafe.Slice((*int64)(p), len(x)), x)
			*(*unsafe.Pointer)(raw) = p
		default:
			panic(fmt.Sprintf("option %s is a %T", o.Name, x))
		}
	}
	return list, func() {
		for _, p := range kept {
			C.free(p)
		}
	}
}

// integers lays out numbers for a call, which frees them.
func integers(list []int) *C.int64_t {
	p := (*C.int64_t)(C.calloc(C.size_t(max(1, len(list))), 8))
	for i, n := range list {
		unsafe.Slice(p, len(list))[i] = C.int64_t(n)
	}
	return p
}

// bytes copies what C holds.
func bytes(p *C.char, size C.size_t) []byte {
	if uint64(size) > math.MaxInt32 {
		return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(p)), int(size))...)
	}
	return C.GoBytes(unsafe.Pointer(p), C.int(size))
}
