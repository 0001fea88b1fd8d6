package pjrt

/*
#include "api.h"
*/
import "C"

import (
	"slices"
	"unsafe"
)

// Member is a device among those of all processes.
type Member struct {
	ID      int // over all processes
	Process int // that it belongs to
	Local   int // its place among those of the client's own process, -1 of another's
}

// ProcessIndex is the number of the process that a client is of, among those whose devices it knows.
func (t Table) ProcessIndex(client unsafe.Pointer) (int, error) {
	return t.number(C.client_process_index, client)
}

// Members are all devices that a client knows, those of other processes too.
func (t Table) Members(client unsafe.Pointer) ([]Member, error) {
	all, err := t.devices(C.client_devices, client)
	if err != nil {
		return nil, err
	}
	own, err := t.devices(C.client_addressable_devices, client)
	if err != nil {
		return nil, err
	}
	out := make([]Member, len(all))
	for i, device := range all {
		description, err := t.object(C.device_get_description, device)
		if err != nil {
			return nil, err
		}
		if out[i].ID, err = t.number(C.device_description_id, description); err != nil {
			return nil, err
		}
		if out[i].Process, err = t.number(C.device_description_process_index, description); err != nil {
			return nil, err
		}
		out[i].Local = slices.Index(own, device)
	}
	return out, nil
}
