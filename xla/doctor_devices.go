//go:build linux || darwin

package xla

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// The few declarations of pjrt_c_api.h (API 0.x, where structures only grow at their end) that
// tell a device's kind and memory: go-xla has no binding for these calls.

typedef void* (*pjrt_fn)(void* args);

typedef struct {
	size_t struct_size;
	void* extension;
	struct { size_t struct_size; void* extension; int major, minor; } version;
	pjrt_fn fn[35];
} pjrt_api;

enum { // indices into fn
	ErrorDestroy = 0, ErrorMessage = 1, ClientCreate = 10, ClientDestroy = 11, ClientPlatformName = 12,
	ClientPlatformVersion = 14, ClientAddressableDevices = 16, DescriptionKind = 26, DescriptionDebugString = 27,
	DeviceGetDescription = 29, DeviceMemoryStats = 34,
};

typedef struct { // the arguments of most calls: an object in, a pointer and a count out
	size_t struct_size;
	void* extension;
	void* in;
	void* out;
	size_t n;
} pjrt_query;

typedef struct {
	size_t struct_size;
	void* extension;
	const char* name;
	size_t name_size;
	int type; // 1: int64
	int64_t value;
	size_t value_size;
} pjrt_option;

typedef struct {
	size_t struct_size;
	void* extension;
	pjrt_option* options;
	size_t num_options;
	void* callbacks[4];
	void* client; // out
	void* more_callbacks[2];
} pjrt_create;

typedef struct {
	size_t struct_size;
	void* extension;
	void* device;
	int64_t bytes_in_use;
	struct { int64_t value; bool set; } peak, allocs, largest, limit, reserved, peak_reserved, reservable, free_block, pool, peak_pool;
} pjrt_memory;

// limner_api returns the table of a plugin that is loaded already.
static pjrt_api* limner_api(const char* path) {
	void* handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
	if (!handle) return NULL;
	pjrt_api* (*get)(void) = (pjrt_api* (*)(void))dlsym(handle, "GetPjrtApi");
	pjrt_api* api = get ? get() : NULL;
	return api && api->struct_size >= sizeof(pjrt_api) ? api : NULL;
}

// limner_query makes a call whose structure has size bytes and returns its error.
static void* limner_query(pjrt_api* api, int fn, size_t size, void* in, void** out, size_t* n) {
	pjrt_query args = {size, NULL, in, NULL, 0};
	void* error = api->fn[fn](&args);
	if (out) *out = args.out;
	if (n) *n = args.n;
	return error;
}

// limner_create makes a client, with cpu_devices devices if that is above 0.
static void* limner_create(pjrt_api* api, int64_t cpu_devices, void** client) {
	pjrt_option option = {sizeof(option), NULL, "cpu_device_count", 16, 1, cpu_devices, 1};
	pjrt_create args = {sizeof(args), NULL, &option, cpu_devices > 0, {NULL}, NULL, {NULL}};
	void* error = api->fn[ClientCreate](&args);
	*client = args.client;
	return error;
}

// limner_memory returns what a device says about its memory.
static void* limner_memory(pjrt_api* api, void* device, int64_t* limit, int64_t* used) {
	pjrt_memory args = {sizeof(args), NULL, device};
	void* error = api->fn[DeviceMemoryStats](&args);
	if (!error && args.limit.set) { *limit = args.limit.value; *used = args.bytes_in_use; }
	return error;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// clientDevices is what a client says about its platform and devices.
type clientDevices struct {
	platform, version string
	list              []DeviceReport
}

// sizes of the argument structures that limner_query fills.
const (
	queryIn    = C.size_t(unsafe.Offsetof(C.pjrt_query{}.out))
	queryInOut = C.size_t(unsafe.Offsetof(C.pjrt_query{}.n))
	queryFull  = C.size_t(unsafe.Sizeof(C.pjrt_query{}))
)

// pluginAPI calls a loaded plugin.
type pluginAPI struct{ table *C.pjrt_api }

// listDevices makes a client of a loaded plugin, asks for its devices, and closes it again.
func listDevices(path string, cpuDevices int) (found clientDevices, err error) {
	cPath := C.CString(path)
	defer C.free(unsafe.Pointer(cPath))
	api := pluginAPI{C.limner_api(cPath)}
	if api.table == nil {
		return found, fmt.Errorf("%s has no usable table of PJRT calls", path)
	}
	var client unsafe.Pointer
	if err := api.err(C.limner_create(api.table, C.int64_t(cpuDevices), &client)); err != nil {
		return found, err
	}
	defer func() {
		err = errors.Join(err, api.err(C.limner_query(api.table, C.ClientDestroy, queryIn, client, nil, nil)))
	}()
	if found.platform, err = api.text(C.ClientPlatformName, client); err != nil {
		return found, err
	}
	if found.version, err = api.text(C.ClientPlatformVersion, client); err != nil {
		return found, err
	}
	var first unsafe.Pointer
	var n C.size_t
	if err := api.err(C.limner_query(api.table, C.ClientAddressableDevices, queryFull, client, &first, &n)); err != nil {
		return found, err
	}
	for _, device := range unsafe.Slice((*unsafe.Pointer)(first), int(n)) {
		d, err := api.device(device)
		if err != nil {
			return found, err
		}
		found.list = append(found.list, d)
	}
	return found, nil
}

// device describes one device. Not every plugin knows its memory.
func (api pluginAPI) device(device unsafe.Pointer) (d DeviceReport, err error) {
	var description unsafe.Pointer
	if err := api.err(C.limner_query(api.table, C.DeviceGetDescription, queryInOut, device, &description, nil)); err != nil {
		return d, err
	}
	if d.Kind, err = api.text(C.DescriptionKind, description); err != nil {
		return d, err
	}
	if d.Name, err = api.text(C.DescriptionDebugString, description); err != nil {
		return d, err
	}
	var limit, used C.int64_t
	if api.err(C.limner_memory(api.table, device, &limit, &used)) == nil {
		d.MemoryBytes, d.InUseBytes = int64(limit), int64(used)
	}
	return d, nil
}

// text makes a call that returns a string.
func (api pluginAPI) text(fn C.int, object unsafe.Pointer) (string, error) {
	var out unsafe.Pointer
	var n C.size_t
	if err := api.err(C.limner_query(api.table, fn, queryFull, object, &out, &n)); err != nil {
		return "", err
	}
	return C.GoStringN((*C.char)(out), C.int(n)), nil
}

// err turns a PJRT error into a Go error, its first line, and frees it.
func (api pluginAPI) err(e unsafe.Pointer) error {
	if e == nil {
		return nil
	}
	var out unsafe.Pointer
	var n C.size_t
	C.limner_query(api.table, C.ErrorMessage, queryFull, e, &out, &n)
	message, _, _ := strings.Cut(C.GoStringN((*C.char)(out), C.int(n)), "\n")
	C.limner_query(api.table, C.ErrorDestroy, queryIn, e, nil, nil)
	return errors.New(message)
}
