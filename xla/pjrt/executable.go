package pjrt

/*
#include <stdlib.h>
#include "api.h"

static void release_serialized(serialize_args *args) {
	if (args->release) {
		args->release(args->owner);
	}
}
*/
import "C"

import "unsafe"

// Executable is a compiled program.
type Executable struct {
	table Table
	c     unsafe.Pointer
}

// Memory is what a compiled program needs on each of its devices, in bytes.
type Memory struct {
	Arguments   int64 // parameters
	Outputs     int64 // outputs, those that take over a parameter's buffer included
	Aliases     int64 // outputs that take over a parameter's buffer
	Temporaries int64
	Code        int64 // generated code
	Peak        int64 // while it runs; 0 where the plugin does not say
}

// Total is what a device must hold while the program runs.
func (m Memory) Total() int64 { return m.Code + m.Arguments + m.Outputs - m.Aliases + m.Temporaries }

// Memory is what the compiler says of it.
func (e *Executable) Memory() (Memory, error) {
	args := allocate[C.memory_stats_args]()
	defer release(args)
	args.executable = e.c
	if err := e.table.call(C.executable_memory_stats, unsafe.Pointer(args)); err != nil {
		return Memory{}, err
	}
	return Memory{
		Arguments: int64(args.arguments), Outputs: int64(args.outputs), Aliases: int64(args.aliases),
		Temporaries: int64(args.temporaries), Code: int64(args.code), Peak: int64(args.peak),
	}, nil
}

// Cost is the compiler's analysis, under XLA's names: "flops", "bytes accessed", "optimal_seconds" and finer ones.
func (e *Executable) Cost() (map[string]float64, error) {
	args := allocate[C.cost_analysis_args]()
	defer release(args)
	args.executable = e.c
	if err := e.table.call(C.executable_cost_analysis, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	return values(args.values, args.count), nil
}

// OptimizedProgram is what the compiler made of the program: a serialized HloModuleProto or HloModuleProtoWithConfig,
// as format says.
func (e *Executable) OptimizedProgram() (code []byte, format string, err error) {
	p := allocate[C.program]()
	defer release(p)
	args := allocate[C.optimized_program_args]()
	defer release(args)
	args.executable, args.program = e.c, p
	if err := e.table.call(C.executable_optimized_program, unsafe.Pointer(args)); err != nil {
		return nil, "", err
	}
	// The first call gave the size; the second fills the space.
	p.code = (*C.char)(C.malloc(p.code_size))
	defer C.free(unsafe.Pointer(p.code))
	if err := e.table.call(C.executable_optimized_program, unsafe.Pointer(args)); err != nil {
		return nil, "", err
	}
	return bytes(p.code, p.code_size), C.GoStringN(p.format, C.int(p.format_size)), nil
}

// Serialize turns the program into bytes that [Client.Load] of the same plugin takes.
func (e *Executable) Serialize() ([]byte, error) {
	args := allocate[C.serialize_args]()
	defer release(args)
	args.executable = e.c
	if err := e.table.call(C.executable_serialize, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	defer C.release_serialized(args)
	return bytes(args.bytes, args.bytes_size), nil
}

// Close frees the program.
func (e *Executable) Close() error { return e.table.act(C.executable_destroy, e.c) }
