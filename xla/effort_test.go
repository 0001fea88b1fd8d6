package xla

import (
	"bytes"
	"testing"
)

// What is added to the compilers' options has the bytes that they read.
func TestEffortOptions(t *testing.T) {
	const name = "\x3a\x24\x0a\x1exla_backend_optimization_level\x12\x02\x18"
	for effort, level := range map[Effort]byte{EffortDefault: 1, EffortQuick: 0} {
		const noXNNPACK = "\x3a\x19\x0a\x13xla_cpu_use_xnnpack\x12\x02\x10\x00"
		if got, want := effort.cpu(), append(append([]byte(name), level), noXNNPACK...); !bytes.Equal(got, want) {
			t.Errorf("%s on a CPU: got %x, want %x", effort, got, want)
		}
	}
	if got, want := EffortQuick.tpu([]byte("before")), []byte("before\x1a\x06\xc0\x01\x09\xc8\x01\x09"); !bytes.Equal(got, want) {
		t.Errorf("quick on a TPU: got %x, want %x", got, want)
	}
	if got := EffortDefault.tpu([]byte("before")); string(got) != "before" {
		t.Errorf("the default on a TPU: got %x, want nothing added", got)
	}
}
