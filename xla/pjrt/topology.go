package pjrt

/*
#include <stdlib.h>
#include "api.h"
*/
import "C"

import "unsafe"

// Option is a named value of a call: a string, an int64 or a []int64.
type Option struct {
	Name  string
	Value any
}

// Topology is a set of devices that need not be there.
type Topology struct {
	table Table
	c     unsafe.Pointer
}

// NewTopology describes devices by the plugin's own name for them, such as v4:2x2x1.
func (t Table) NewTopology(name string, options ...Option) (*Topology, error) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	list, free := namedValues(options)
	defer free()
	args := allocate[C.topology_create_args]()
	defer release(args)
	args.name, args.name_size, args.options, args.count = text, C.size_t(len(name)), list, C.size_t(len(options))
	if err := t.call(C.topology_create, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	return &Topology{t, args.topology}, nil
}

// Devices is how many there are.
func (o *Topology) Devices() (int, error) {
	devices, err := o.table.devices(C.topology_devices, o.c)
	return len(devices), err
}

// DeviceKind is what the devices are: TPU v4.
func (o *Topology) DeviceKind() (string, error) {
	descriptions, err := o.table.devices(C.topology_devices, o.c)
	if err != nil || len(descriptions) == 0 {
		return "", err
	}
	return o.table.text(C.device_description_kind, descriptions[0])
}

// Version is that of the platform: the compiler's.
func (o *Topology) Version() (string, error) { return o.table.text(C.topology_platform_version, o.c) }

// Compile compiles a StableHLO program, as text or bytecode, for the devices. options is a serialized
// CompileOptionsProto.
func (o *Topology) Compile(code, options []byte) (*Executable, error) {
	p, free := newProgram(code)
	defer free()
	opts := C.CBytes(options)
	defer C.free(opts)
	args := allocate[C.compile_args]()
	defer release(args)
	args.topology, args.program, args.options, args.options_size = o.c, p, (*C.char)(opts), C.size_t(len(options))
	if err := o.table.call(C.compile, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	return &Executable{o.table, args.executable}, nil
}

// Close frees the description.
func (o *Topology) Close() error { return o.table.act(C.topology_destroy, o.c) }

// newProgram lays out a program for a call. The second result frees it.
func newProgram(code []byte) (*C.program, func()) {
	p := allocate[C.program]()
	p.code, p.code_size = (*C.char)(C.CBytes(code)), C.size_t(len(code))
	format := C.CString("mlir")
	p.format, p.format_size = format, 4
	return p, func() {
		C.free(unsafe.Pointer(p.code))
		C.free(unsafe.Pointer(format))
		release(p)
	}
}
