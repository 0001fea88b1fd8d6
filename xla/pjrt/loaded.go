package pjrt

/*
#include <stdlib.h>
#include "api.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// Loaded is a compiled program that can be run.
type Loaded struct {
	*Executable // what the compiler says of it
	client      *Client
	c           unsafe.Pointer
	outputs     int  // on each device
	Portable    bool // it was compiled for any one device: it runs on the first one of this process
}

// Compile compiles a StableHLO program, as text or bytecode. options is a serialized CompileOptionsProto.
func (c *Client) Compile(code, options []byte) (*Loaded, error) {
	p, free := newProgram(code)
	defer free()
	opts := C.CBytes(options)
	defer C.free(opts)
	args := allocate[C.client_compile_args]()
	defer release(args)
	args.client, args.program, args.options, args.options_size = c.c, p, (*C.char)(opts), C.size_t(len(options))
	if err := c.table.call(C.client_compile, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	return c.loaded(args.executable)
}

// Load loads what [Executable.Serialize] gave.
func (c *Client) Load(serialized []byte) (*Loaded, error) {
	raw := C.CBytes(serialized)
	defer C.free(raw)
	args := allocate[C.deserialize_args]()
	defer release(args)
	args.client, args.bytes, args.bytes_size = c.c, (*C.char)(raw), C.size_t(len(serialized))
	if err := c.table.call(C.deserialize_and_load, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	return c.loaded(args.executable)
}

func (c *Client) loaded(p unsafe.Pointer) (*Loaded, error) {
	l := &Loaded{client: c, c: p}
	executable, err := c.table.object(C.loaded_executable_get_executable, p)
	if err == nil {
		l.Executable = &Executable{c.table, executable}
		var outputs unsafe.Pointer // a number of a pointer's size
		outputs, err = c.table.object(C.executable_num_outputs, executable)
		l.outputs = int(uintptr(outputs))
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Execute runs the program and waits for it. arguments are those of the first of so many devices in the order of the
// parameters, then those of the next one, and so are the results. The first arguments of each device, as many as
// donated says, are closed: the program may write its results over them. After an error there are no results.
func (l *Loaded) Execute(arguments []*Buffer, devices, donated int) ([]*Buffer, error) {
	each := len(arguments) / devices
	if each*devices != len(arguments) || donated > each {
		return nil, fmt.Errorf("%d arguments, %d of them donated, for %d devices", len(arguments), donated, devices)
	}
	size := devices*(3+l.outputs) + len(arguments) + each - donated
	block := (*unsafe.Pointer)(C.calloc(C.size_t(size), C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer C.free(unsafe.Pointer(block))
	free := unsafe.Slice(block, size)
	take := func(n int) []unsafe.Pointer {
		taken := free[:n]
		free = free[n:]
		return taken
	}
	ins, outs, done := take(devices), take(devices), take(devices)
	in, out := take(len(arguments)), take(devices*l.outputs)
	for device := range devices {
		ins[device] = unsafe.Pointer(unsafe.SliceData(in[device*each:]))
		outs[device] = unsafe.Pointer(unsafe.SliceData(out[device*l.outputs:]))
	}
	for i, b := range arguments {
		if in[i] = b.c; b.c == nil {
			return nil, fmt.Errorf("argument %d was freed", i)
		}
	}
	kept := unsafe.Slice((*C.int64_t)(unsafe.Pointer(unsafe.SliceData(free))), each-donated)
	for i := range kept {
		kept[i] = C.int64_t(donated + i)
	}
	options, args := allocate[C.execute_options](), allocate[C.execute_args]()
	defer release(options)
	defer release(args)
	options.kept, options.kept_count = unsafe.SliceData(kept), C.size_t(len(kept))
	args.executable, args.options, args.devices, args.argument_count = l.c, options, C.size_t(devices), C.size_t(each)
	args.arguments = (**unsafe.Pointer)(unsafe.Pointer(unsafe.SliceData(ins)))
	args.outputs = (**unsafe.Pointer)(unsafe.Pointer(unsafe.SliceData(outs)))
	args.done = unsafe.SliceData(done)
	if l.Portable {
		args.device = l.client.own[0]
	}
	err := l.client.table.call(C.loaded_executable_execute, unsafe.Pointer(args))
	runtime.KeepAlive(arguments)
	if err != nil {
		return nil, err
	}
	for _, event := range done {
		err = errors.Join(err, l.client.table.await(event))
	}
	results := make([]*Buffer, len(out))
	for i := range out {
		results[i] = l.client.buffer(out[i])
	}
	for i, b := range arguments {
		if i%each < donated {
			err = errors.Join(err, b.Close())
		}
	}
	if err == nil {
		return results, nil
	}
	for _, b := range results {
		err = errors.Join(err, b.Close())
	}
	return nil, err
}

// Close frees the program.
func (l *Loaded) Close() error {
	err := l.client.free(C.loaded_executable_destroy, l.c)
	if l.Executable != nil {
		err = errors.Join(err, l.client.free(C.executable_destroy, l.Executable.c))
	}
	return err
}
