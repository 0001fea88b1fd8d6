package pjrt

/*
#include <stdlib.h>
#include "api.h"
*/
import "C"

import (
	"errors"
	"runtime"
	"unsafe"
)

// Buffer is an array on a device. One that is forgotten is freed some time after.
type Buffer struct {
	client    *Client
	c         unsafe.Pointer // nil once it was closed
	forgotten runtime.Cleanup
}

func (c *Client) buffer(p unsafe.Pointer) *Buffer {
	b := &Buffer{client: c, c: p}
	b.forgotten = runtime.AddCleanup(b, func(p unsafe.Pointer) { _ = c.free(C.buffer_destroy, p) }, p)
	return b
}

// Put copies an array, row-major, to a device of this process by its number among those. kind is PJRT's number of its
// dtype.
func (c *Client) Put(device int, data []byte, kind int, dims []int) (*Buffer, error) {
	sizes := integers(dims)
	defer C.free(unsafe.Pointer(sizes))
	args := allocate[C.buffer_from_host_args]()
	defer release(args)
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(unsafe.SliceData(data))
	args.client, args.data, args.device = c.c, unsafe.Pointer(unsafe.SliceData(data)), c.own[device]
	args._type, args.dims, args.rank = C.int(kind), sizes, C.size_t(len(dims))
	args.semantics = C.immutable_until_transfer_completes
	if err := c.table.call(C.client_buffer_from_host, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	b := c.buffer(args.buffer)
	if err := c.table.await(args.done); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Reserves says whether the plugin knows how to Reserve.
func (t Table) Reserves() bool { return *(*C.size_t)(t.c) >= C.client_create_uninitialized_buffer+8 }

// Reserve is Put of an array that holds nothing in particular. On a CPU it is then written where it lies, see
// [Buffer.Bytes].
func (c *Client) Reserve(device int, kind int, dims []int) (*Buffer, error) {
	sizes := integers(dims)
	defer C.free(unsafe.Pointer(sizes))
	args := allocate[C.uninitialized_buffer_args]()
	defer release(args)
	args.client, args.device = c.c, c.own[device]
	args._type, args.dims, args.rank = C.int(kind), sizes, C.size_t(len(dims))
	if err := c.table.call(C.client_create_uninitialized_buffer, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	b := c.buffer(args.buffer)
	ready, err := c.table.object(C.buffer_ready_event, args.buffer)
	if err == nil {
		err = c.table.await(ready)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Bytes are the n bytes of an array where it lies, on a CPU. They may be used until the buffer is closed or donated.
func (b *Buffer) Bytes(n int) ([]byte, error) {
	p, err := b.client.table.object(C.buffer_unsafe_pointer, b.c)
	return unsafe.Slice((*byte)(p), n), err
}

// Get copies an array of so many axes, row-major, into all of to.
func (b *Buffer) Get(to []byte, rank int) error {
	axes := make([]int, rank)
	for i := range axes {
		axes[i] = rank - 1 - i
	}
	minorToMajor := integers(axes)
	defer C.free(unsafe.Pointer(minorToMajor))
	layout, args := allocate[C.memory_layout](), allocate[C.buffer_to_host_args]()
	defer release(layout)
	defer release(args)
	layout.tiled_size = 56 // from tiled_size up to the tiles
	layout.minor_to_major, layout.rank = minorToMajor, C.size_t(rank)
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(unsafe.SliceData(to))
	args.buffer, args.layout, args.to, args.bytes = b.c, layout, unsafe.Pointer(unsafe.SliceData(to)), C.size_t(len(to))
	err := b.client.table.call(C.buffer_to_host, unsafe.Pointer(args))
	if err == nil {
		err = b.client.table.await(args.done)
	}
	runtime.KeepAlive(b)
	return err
}

// Close frees the array.
func (b *Buffer) Close() error {
	p := b.c
	if p == nil {
		return nil
	}
	b.forgotten.Stop()
	b.c = nil
	return b.client.free(C.buffer_destroy, p)
}
