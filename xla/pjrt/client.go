package pjrt

/*
#include "api.h"
*/
import "C"

import (
	"errors"
	"slices"
	"sync"
	"unsafe"
)

// Client is the devices that a plugin has here, those that other processes may use too.
type Client struct {
	table Table
	c     unsafe.Pointer
	own   []unsafe.Pointer // devices of this process

	mu     sync.RWMutex // held while something of the client's is freed
	closed bool
}

// NewClient takes the devices of an initialized plugin.
func (t Table) NewClient(options ...Option) (*Client, error) {
	list, free := namedValues(options)
	defer free()
	args := allocate[C.client_create_args]()
	defer release(args)
	args.options, args.count = list, C.size_t(len(options))
	if err := t.call(C.client_create, unsafe.Pointer(args)); err != nil {
		return nil, err
	}
	c := &Client{table: t, c: args.client}
	var err error
	if c.own, err = t.devices(C.client_addressable_devices, c.c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Platform is what the devices are: cpu, tpu.
func (c *Client) Platform() (string, error) { return c.table.text(C.client_platform_name, c.c) }

// Version is that of the platform: of the compiler and of the runtime beneath.
func (c *Client) Version() (string, error) { return c.table.text(C.client_platform_version, c.c) }

// Process is the number of this process among those whose devices the client knows.
func (c *Client) Process() (int, error) { return c.table.number(C.client_process_index, c.c) }

// Own is how many devices this process has.
func (c *Client) Own() int { return len(c.own) }

// Device is one of a client's.
type Device struct {
	Name, Kind               string
	ID                       int   // over all processes
	Process                  int   // that it belongs to
	Local                    int   // its number among those of the client's own process, -1 of another's
	MemoryLimit, MemoryInUse int64 // bytes; 0 where the plugin does not know
}

// Devices describes all devices, those of other processes too.
func (c *Client) Devices() ([]Device, error) {
	found, err := c.table.devices(C.client_devices, c.c)
	if err != nil {
		return nil, err
	}
	var all []Device
	for _, device := range found {
		d, err := c.table.device(device)
		if err != nil {
			return nil, err
		}
		d.Local = slices.Index(c.own, device)
		all = append(all, d)
	}
	return all, nil
}

func (t Table) device(device unsafe.Pointer) (d Device, err error) {
	description, err := t.object(C.device_get_description, device)
	if err != nil {
		return d, err
	}
	if d.ID, err = t.number(C.device_description_id, description); err != nil {
		return d, err
	}
	if d.Process, err = t.number(C.device_description_process_index, description); err != nil {
		return d, err
	}
	if d.Kind, err = t.text(C.device_description_kind, description); err != nil {
		return d, err
	}
	if d.Name, err = t.text(C.device_description_debug_string, description); err != nil {
		return d, err
	}
	args := allocate[C.device_memory_args]()
	defer release(args)
	args.device = device
	if t.call(C.device_memory_stats, unsafe.Pointer(args)) == nil && bool(args.limit.known) {
		d.MemoryLimit, d.MemoryInUse = int64(args.limit.value), int64(args.in_use)
	}
	return d, nil
}

// free frees what is the client's, which frees all of it itself when it is closed.
func (c *Client) free(place C.size_t, object unsafe.Pointer) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return nil
	}
	return c.table.act(place, object)
}

// Close lets go of the devices, with the arrays and programs on them.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.table.act(C.client_destroy, c.c)
}
