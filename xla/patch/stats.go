package patch

/*
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// The few parts of PJRT's C API (version 0.83; fields are only ever added behind) that statistics need.
// The table of functions begins with its own size.
typedef struct {
	size_t struct_size;
	void *extension_start;
	void *executable;
	int64_t code, arguments, outputs, aliases, temporaries;
	int64_t host_code, host_arguments, host_outputs, host_aliases, host_temporaries;
	int64_t peak;
} limner_stats_args;

typedef struct {
	size_t struct_size;
	void *extension_start;
	const void *error;
	const char *message;
	size_t message_size;
} limner_error_message_args;

typedef struct {
	size_t struct_size;
	void *extension_start;
	void *error;
} limner_error_destroy_args;

enum {
	limner_error_destroy_offset = 40,
	limner_error_message_offset = 48,
	limner_stats_offset = 808,
};

static void *limner_function(const char *api, size_t offset) {
	return *(void *const *)(api + offset);
}

// limner_stats fills args; it returns NULL, or a message that the caller frees.
static char *limner_stats(const char *api, limner_stats_args *args) {
	if (*(const size_t *)api < limner_stats_offset + sizeof(void *) || !limner_function(api, limner_stats_offset)) {
		return strdup("the plugin is too old to report the memory of a program");
	}
	void *(*get)(limner_stats_args *) = limner_function(api, limner_stats_offset);
	void *error = get(args);
	if (!error) {
		return NULL;
	}
	limner_error_message_args message = {.struct_size = sizeof message, .error = error};
	void (*describe)(limner_error_message_args *) = limner_function(api, limner_error_message_offset);
	describe(&message);
	char *text = strndup(message.message, message.message_size);
	limner_error_destroy_args destroy = {.struct_size = sizeof destroy, .error = error};
	void (*release)(limner_error_destroy_args *) = limner_function(api, limner_error_destroy_offset);
	release(&destroy);
	return text;
}
*/
import "C"

import (
	"fmt"
	"reflect"
	"runtime"
	"unsafe"

	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/xla"
)

// Stats is the memory that a compiled program needs on each of its devices, in bytes.
type Stats struct {
	ArgumentBytes int64 // parameters
	OutputBytes   int64 // outputs, those that take over a parameter's buffer included
	AliasBytes    int64 // outputs that take over a parameter's buffer
	TempBytes     int64 // temporaries
	CodeBytes     int64 // generated code
	PeakBytes     int64 // peak while it runs; 0 where the plugin does not say
}

// TotalBytes is what a device must hold while the program runs.
func (s Stats) TotalBytes() int64 {
	return s.CodeBytes + s.ArgumentBytes + s.OutputBytes - s.AliasBytes + s.TempBytes
}

// memoryStats asks the plugin of b for the memory of an executable.
func memoryStats(b *xla.Backend, executable backends.Executable) (Stats, error) {
	loaded, err := loadedExecutable(executable)
	if err != nil {
		return Stats{}, err
	}
	api, err := address(reflect.ValueOf(b), "plugin", "api")
	if err != nil {
		return Stats{}, err
	}
	handle, err := address(reflect.ValueOf(loaded), "executable", "wrapper", "c")
	if err != nil {
		return Stats{}, err
	}
	args := C.limner_stats_args{struct_size: C.sizeof_limner_stats_args, executable: handle}
	message := C.limner_stats((*C.char)(api), &args)
	runtime.KeepAlive(loaded)
	if message != nil {
		defer C.free(unsafe.Pointer(message))
		return Stats{}, fmt.Errorf("memory statistics: %s", C.GoString(message))
	}
	return Stats{
		ArgumentBytes: int64(args.arguments),
		OutputBytes:   int64(args.outputs),
		AliasBytes:    int64(args.aliases),
		TempBytes:     int64(args.temporaries),
		CodeBytes:     int64(args.code),
		PeakBytes:     int64(args.peak),
	}, nil
}
