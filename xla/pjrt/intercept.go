package pjrt

/*
#include <stdlib.h>
#include "api.h"

void *intercepted_table(const void *table);

extern const char limner_unwritten;
*/
import "C"

import (
	"sync"
	"unsafe"
)

// Compilation is one call to a client to compile a program.
type Compilation struct {
	Program []byte // StableHLO
	Options []byte // a serialized CompileOptionsProto

	table  Table
	args   *C.client_compile_args
	failed unsafe.Pointer // the plugin's error
}

// Compile lets the client compile Program with Options, which may have been changed. Whether that succeeded is told to who asked for the
// compilation.
func (c *Compilation) Compile() (ok bool) {
	p, free := newProgram(c.Program)
	defer free()
	options := C.CBytes(c.Options)
	defer C.free(options)
	args := allocate[C.client_compile_args]()
	defer release(args)
	*args = *c.args
	args.program, args.options, args.options_size = p, (*C.char)(options), C.size_t(len(c.Options))
	c.failed = C.call(c.table.c, C.client_compile, unsafe.Pointer(args))
	c.args.executable = args.executable
	return c.failed == nil
}

// Load takes serialized bytes in place of compiling.
func (c *Compilation) Load(serialized []byte) error {
	loaded, err := c.table.load(c.args.client, serialized)
	if err == nil {
		c.args.executable = loaded
	}
	return err
}

// Executable is what was compiled or loaded.
func (c *Compilation) Executable() (*Executable, error) {
	return c.table.Executable(c.args.executable)
}

// ClientVersion is the version of the client's platform: of the compiler and of the runtime beneath.
func (c *Compilation) ClientVersion() (string, error) {
	return c.table.text(C.client_platform_version, c.args.client)
}

// DeviceKind is what the client's devices are: cpu, TPU v4.
func (c *Compilation) DeviceKind() (string, error) {
	devices, err := c.table.devices(C.client_devices, c.args.client)
	if err != nil || len(devices) == 0 {
		return "", err
	}
	description, err := c.table.object(C.device_get_description, devices[0])
	if err != nil {
		return "", err
	}
	return c.table.text(C.device_description_kind, description)
}

// Compiler stands in for a client's own. It ends with a Load that succeeds, or with Compile.
type Compiler func(c *Compilation)

// intercepted is what is kept of a client whose compilations are intercepted.
type intercepted struct {
	table    Table // the plugin's own
	compiler Compiler
}

var clients sync.Map // of intercepted, by their pointers

// Intercepted copies the table. Each client made through the copy needs a call to Intercept before it compiles.
func (t Table) Intercepted() Table { return Table{C.intercepted_table(t.c)} }

// Intercept puts a compiler in a client's place, where the client was made through an intercepted copy of t; nil forgets the client.
func (t Table) Intercept(client unsafe.Pointer, f Compiler) {
	if f == nil {
		clients.Delete(client)
		return
	}
	clients.Store(client, intercepted{t, f})
}

//export limner_client_compile
func limner_client_compile(args *C.client_compile_args) unsafe.Pointer {
	found, ok := clients.Load(args.client)
	if !ok {
		panic("pjrt: a client compiles that Intercept was not told of")
	}
	client := found.(intercepted)
	c := &Compilation{
		Program: bytes(args.program.code, args.program.code_size), Options: bytes(args.options, args.options_size),
		table: client.table, args: args,
	}
	client.compiler(c)
	return c.failed
}

// MakesUnwritten says whether the plugin knows how to make a buffer of Unwritten.
func (t Table) MakesUnwritten() bool {
	return *(*C.size_t)(t.c) >= C.client_create_uninitialized_buffer+8
}

// Unwritten in the place of data, where a client of an intercepted table makes a buffer of host memory, has it make one that holds nothing in
// particular. On a CPU the buffer is then written where it lies.
var Unwritten = unsafe.Pointer(&C.limner_unwritten)

//export limner_buffer_from_host
func limner_buffer_from_host(args *C.buffer_from_host_args) unsafe.Pointer {
	found, ok := clients.Load(args.client)
	if !ok {
		panic("pjrt: a client makes a buffer that Intercept was not told of")
	}
	table := found.(intercepted).table
	if args.data != Unwritten {
		return C.call(table.c, C.client_buffer_from_host, unsafe.Pointer(args))
	}
	made := allocate[C.uninitialized_buffer_args]()
	defer release(made)
	made.client, made.dims, made.rank, made._type = args.client, args.dims, args.rank, args._type
	made.device, made.memory, made.layout = args.device, args.memory, args.layout
	if failed := C.call(table.c, C.client_create_uninitialized_buffer, unsafe.Pointer(made)); failed != nil {
		return failed
	}
	ready := allocate[C.object_args]()
	defer release(ready)
	ready.in, args.buffer = made.buffer, made.buffer
	failed := C.call(table.c, C.buffer_ready_event, unsafe.Pointer(ready))
	args.done = ready.out
	return failed
}
