package xla

import "slices"

// Effort is how much work a compiler may spend. libtpu's quick effort takes a tenth of the time of its own choice, XLA's CPU compiler's half; their
// programs are slower, and on a TPU may need more memory. Results differ by rounding.
type Effort string

const (
	EffortDefault Effort = "default" // the compiler's own choice
	EffortQuick   Effort = "quick"   // XLA's O0; on a CPU LLVM's
)

// Efforts are those that can be named.
var Efforts = []string{string(EffortDefault), string(EffortQuick)}

// tpu adds the effort to a serialized CompileOptionsProto for libtpu.
func (e Effort) tpu(serialized []byte) []byte {
	if e != EffortQuick {
		return serialized
	}
	// executable_build_options {optimization_level: 9, memory_fitting_effort: 9}, which the message's reader merges into what is there
	return append(slices.Clone(serialized), 3<<3|2, 6, 24<<3&0x7f|0x80, 24>>4, 9, 25<<3&0x7f|0x80, 25>>4, 9)
}

// cpu is what is added to a serialized CompileOptionsProto for XLA's CPU compiler: LLVM's level for the code of fusions. Level 1 takes a tenth less to
// compile than XLA's own choice, and programs are as fast, since their time goes into matrix products that are not compiled here.
func (e Effort) cpu() []byte {
	level := byte(1)
	if e == EffortQuick {
		level = 0
	}
	// env_option_overrides: {"xla_backend_optimization_level": {int_field: level}}
	return append([]byte("\x3a\x24\x0a\x1exla_backend_optimization_level\x12\x02\x18"), level)
}
