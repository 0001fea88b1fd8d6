// The parts of PJRT's C API, version 0.83, that this package calls. Structures begin with their own size and fields are
// only ever added at their ends, so plugins of other minor versions take them as they are.
#ifndef LIMNER_PJRT_API_H
#define LIMNER_PJRT_API_H

#include <stddef.h>
#include <stdint.h>

// Places of functions in the table that a plugin exports, in bytes from its beginning.
enum {
	error_destroy = 40,
	error_message = 48,
	error_code = 56,
	plugin_initialize = 64,
	event_destroy = 80,
	event_await = 104,
	client_create = 120,
	client_destroy = 128,
	client_platform_name = 136,
	client_process_index = 144,
	client_platform_version = 152,
	client_devices = 160,
	client_addressable_devices = 168,
	client_compile = 200,
	client_buffer_from_host = 216,
	device_description_id = 224,
	device_description_process_index = 232,
	device_description_kind = 248,
	device_description_debug_string = 256,
	device_get_description = 272,
	device_memory_stats = 312,
	executable_destroy = 360,
	executable_num_outputs = 392,
	executable_cost_analysis = 408,
	executable_optimized_program = 424,
	executable_serialize = 432,
	loaded_executable_destroy = 440,
	loaded_executable_get_executable = 448,
	loaded_executable_execute = 480,
	deserialize_and_load = 488,
	buffer_destroy = 504,
	buffer_to_host = 600,
	buffer_ready_event = 616,
	buffer_unsafe_pointer = 624,
	topology_create = 696,
	topology_destroy = 704,
	topology_platform_version = 720,
	topology_devices = 728,
	topology_attributes = 744,
	compile = 752,
	executable_memory_stats = 808,
	client_create_uninitialized_buffer = 936,
};

// Extensions: their types, and places of functions in them.
enum {
	extension_ffi = 5,
	ffi_register_handler = 40,
};

typedef struct {
	size_t size;
	void *extension;
	const char *name;
	size_t name_size;
	int type; // one of the value_… below
	union {
		const char *string;
		int64_t integer;
		const int64_t *integers;
		float number;
		_Bool truth;
	};
	size_t value_size;
} named_value;

enum { value_string, value_integer, value_integers, value_number, value_truth };

typedef struct {
	size_t size;
	void *extension;
	char *code;
	size_t code_size;
	const char *format;
	size_t format_size;
} program;

typedef struct {
	size_t size;
	void *extension;
	const void *error;
	const char *text;
	size_t text_size;
} error_message_args;

typedef struct {
	size_t size;
	void *extension;
	const void *error;
	int code;
} error_code_args;

// Of every function that takes one object and gives nothing, or one object.
typedef struct {
	size_t size;
	void *extension;
	void *in;
	void *out;
} object_args;

// Of every function that takes an object and gives a number.
typedef struct {
	size_t size;
	void *extension;
	void *in;
	int out;
} number_args;

// Of every function that takes an object and gives a text.
typedef struct {
	size_t size;
	void *extension;
	void *in;
	const char *text;
	size_t text_size;
} text_args;

typedef struct {
	size_t size;
	void *extension;
	const named_value *options;
	size_t count;
	void *callbacks[4];
	void *client;
	void *more_callbacks[2];
} client_create_args;

typedef struct {
	int64_t value;
	_Bool known;
} maybe;

typedef struct {
	size_t size;
	void *extension;
	void *device;
	int64_t in_use;
	maybe peak, allocations, largest, limit, reserved, peak_reserved, reservable, largest_free, pool, peak_pool;
} device_memory_args;

typedef struct {
	size_t size;
	void *extension;
	void *client;
	const program *program;
	const char *options;
	size_t options_size;
	void *executable;
} client_compile_args;

enum { immutable_until_transfer_completes = 1 };

typedef struct {
	size_t size;
	void *extension;
	void *client;
	const void *data;
	int type;
	const int64_t *dims;
	size_t rank;
	const int64_t *strides;
	size_t strides_count;
	int semantics;
	void *device;
	void *memory;
	void *layout;
	void *done; // an event: data is no longer read
	void *buffer;
} buffer_from_host_args;

// A layout of a host's memory without tiles.
typedef struct {
	size_t size;
	void *extension;
	size_t tiled_size;
	void *tiled_extension;
	const int64_t *minor_to_major;
	size_t rank;
	void *tiles[3];
	int type; // 0: tiled
} memory_layout;

typedef struct {
	size_t size;
	void *extension;
	void *buffer;
	const memory_layout *layout;
	void *to;
	size_t bytes;
	void *done; // an event
} buffer_to_host_args;

typedef struct {
	size_t size;
	void *extension;
	void *callbacks[4];
	int launch;
	const int64_t *kept; // numbers of the arguments that are not donated
	size_t kept_count;
	void *context, *call_location;
	size_t tasks;
	void *task_ids, *incarnations;
} execute_options;

typedef struct {
	size_t size;
	void *extension;
	void *executable;
	const execute_options *options;
	void *const *const *arguments; // lists of buffers, one of each device
	size_t devices, argument_count;
	void **const *outputs;
	void **done; // events, one of each device
	void *device;
} execute_args;

typedef struct {
	size_t size;
	void *extension;
	void *client;
	const int64_t *dims;
	size_t rank;
	int type;
	void *layout;
	void *device;
	void *memory;
	void *buffer;
} uninitialized_buffer_args;

typedef struct {
	size_t size;
	void *extension;
	const void *topology;
	const program *program;
	const char *options;
	size_t options_size;
	void *client;
	void *executable;
} compile_args;

typedef struct {
	size_t size;
	void *extension;
	void *executable;
	program *program;
} optimized_program_args;

typedef struct {
	size_t size;
	void *extension;
	void *executable;
	size_t count;
	const named_value *values;
} cost_analysis_args;

typedef struct {
	size_t size;
	void *extension;
	void *topology;
	const named_value *values;
	size_t count;
} attributes_args;

typedef struct {
	size_t size;
	void *extension;
	const void *executable;
	const char *bytes;
	size_t bytes_size;
	void *owner;
	void (*release)(void *owner);
} serialize_args;

typedef struct {
	size_t size;
	void *extension;
	void *client;
	const char *bytes;
	size_t bytes_size;
	void *executable;
	const char *options;
	size_t options_size;
} deserialize_args;

typedef struct {
	size_t size;
	void *extension;
	const char *name;
	size_t name_size;
	const named_value *options;
	size_t count;
	void *topology;
} topology_create_args;

typedef struct {
	size_t size;
	const char *name;
	size_t name_size;
	void *handler;
	const char *platform;
	size_t platform_size;
	int traits;
} register_handler_args;

// Of the functions that list the devices of a client or a topology.
typedef struct {
	size_t size;
	void *extension;
	const void *owner;
	void *const *devices;
	size_t count;
} devices_args;

typedef struct {
	size_t size;
	void *extension;
	void *executable;
	int64_t code, arguments, outputs, aliases, temporaries;
	int64_t host_code, host_arguments, host_outputs, host_aliases, host_temporaries;
	int64_t peak;
} memory_stats_args;

// call calls the function at a place of the table. It returns NULL, or an error of the plugin's.
static inline void *call(const void *api, size_t place, void *args) {
	void *(*function)(void *) = *(void *(*const *)(void *))((const char *)api + place);
	return function(args);
}

#endif
