package xla

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Effort is how much work a compiler may spend. libtpu's quick effort takes a tenth of the time of its own choice,
// XLA's CPU compiler's half; their programs are slower, and on a TPU may need more memory. Results differ by rounding.
type Effort string

const (
	EffortDefault Effort = "default" // the compiler's own choice
	EffortQuick   Effort = "quick"   // XLA's O0; on a CPU LLVM's
)

// Efforts are those that can be named.
var Efforts = []string{string(EffortDefault), string(EffortQuick)}

// tpu is what is added to a serialized CompileOptionsProto for libtpu.
func (e Effort) tpu() []byte {
	if e != EffortQuick {
		return nil
	}
	// executable_build_options {optimization_level: O0, memory_fitting_level: O0}, which the message's reader merges
	// into what is there
	const o0 = 9
	build := appendNumber(appendNumber(nil, 24, o0), 25, o0)
	return appendMessage(nil, 3, build)
}

// cpu is what is added to a serialized CompileOptionsProto for XLA's CPU compiler.
//
// LLVM's level for the code of fusions: level 1 takes a tenth less to compile than XLA's own choice, and programs are
// as fast, since their time goes into matrix products that are not compiled here.
//
// Without XNNPACK: for products of some sizes it packs a matrix at the first run and finds it again by its address. A
// state that is replaced in place keeps its address, so that later steps would go on with the first step's parameters.
func (e Effort) cpu() []byte {
	level := uint64(1)
	if e == EffortQuick {
		level = 0
	}
	const boolField, intField = 2, 3 // of OptionOverrideProto
	return append(override("xla_backend_optimization_level", intField, level),
		override("xla_cpu_use_xnnpack", boolField, 0)...)
}

// options are a serialized CompileOptionsProto for a program on all devices, which each of them runs by itself where it
// is apart.
func (b *Backend) options(apart bool) []byte {
	replicas, partitions := 1, b.n
	if apart {
		replicas, partitions = b.n, 1
	}
	build := appendNumber(nil, 1, math.MaxUint64)      // device_ordinal: none
	build = appendNumber(build, 4, uint64(replicas))   // num_replicas
	build = appendNumber(build, 5, uint64(partitions)) // num_partitions
	if b.n == 1 {
		message := appendMessage(nil, 3, build) // executable_build_options
		message = appendNumber(message, 4, 1)   // compile_portable_executable
		return append(message, b.effort...)
	}
	assignment := appendNumber(appendNumber(nil, 1, uint64(replicas)), 2, uint64(partitions))
	for partition := range partitions {
		var ids []byte
		for _, id := range b.order[partition*replicas:][:replicas] {
			ids = protowire.AppendVarint(ids, uint64(id))
		}
		// computation_devices {replica_device_ids}
		assignment = appendMessage(assignment, 3, appendMessage(nil, 1, ids))
	}
	build = appendNumber(build, 6, 1)           // use_spmd_partitioning
	build = appendMessage(build, 9, assignment) // device_assignment
	if !apart {
		build = appendNumber(build, 19, 1) // use_shardy_partitioner
	}
	return append(appendMessage(nil, 3, build), b.effort...)
}

// override is an entry of env_option_overrides: {name: {field: value}}.
func override(name string, field protowire.Number, value uint64) []byte {
	entry := appendMessage(nil, 1, []byte(name))
	entry = appendMessage(entry, 2, appendNumber(nil, field, value))
	return appendMessage(nil, 7, entry)
}

// appendNumber appends a field of a protocol buffer that is a number.
func appendNumber(message []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(message, field, protowire.VarintType), n)
}

// appendMessage appends a field of a protocol buffer that is a message or a text.
func appendMessage(message []byte, field protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, field, protowire.BytesType), content)
}
