package pjrt

/*
#include "api.h"
*/
import "C"

import "unsafe"

// Client is the devices that a plugin has here.
type Client struct {
	table Table
	c     unsafe.Pointer
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
	return &Client{t, args.client}, nil
}

// Platform is what the devices are: cpu, tpu.
func (c *Client) Platform() (string, error) { return c.table.text(C.client_platform_name, c.c) }

// Version is that of the platform.
func (c *Client) Version() (string, error) { return c.table.text(C.client_platform_version, c.c) }

// Device is one of a client's.
type Device struct {
	Name, Kind               string
	MemoryLimit, MemoryInUse int64 // bytes; 0 where the plugin does not know
}

// Devices describes those that this process may use.
func (c *Client) Devices() ([]Device, error) {
	found, err := c.table.devices(C.client_addressable_devices, c.c)
	if err != nil {
		return nil, err
	}
	var all []Device
	for _, device := range found {
		d, err := c.table.device(device)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (t Table) device(device unsafe.Pointer) (d Device, err error) {
	description, err := t.object(C.device_get_description, device)
	if err != nil {
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

// Close lets go of the devices.
func (c *Client) Close() error { return c.table.destroy(C.client_destroy, c.c) }
