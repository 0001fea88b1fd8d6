package xla

import (
	"bytes"
	"fmt"
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
	if got, want := EffortQuick.tpu(), []byte("\x1a\x06\xc0\x01\x09\xc8\x01\x09"); !bytes.Equal(got, want) {
		t.Errorf("quick on a TPU: got %x, want %x", got, want)
	}
	if got := EffortDefault.tpu(); got != nil {
		t.Errorf("the default on a TPU: got %x, want nothing added", got)
	}
}

// The options of programs have the bytes that the keys of programs in users' caches were made of.
func TestOptions(t *testing.T) {
	for _, c := range []struct {
		order []int
		apart bool
		want  string
	}{
		{[]int{0}, false, "1a0f08ffffffffffffffffff01200128012001"},
		{[]int{0}, true, "1a0f08ffffffffffffffffff01200128012001"},
		{[]int{2, 3, 0, 1}, false, "1a2e08ffffffffffffffffff01200128043001" +
			"4a18080110041a030a01021a030a01031a030a01001a030a0101980101"},
		{[]int{2, 3, 0, 1}, true, "1a1f08ffffffffffffffffff012004280130014a0c080410011a060a0402030001"},
	} {
		b := &Backend{n: len(c.order), seats: seats{order: c.order}, effort: []byte("effort")}
		if got := fmt.Sprintf("%x", b.options(c.apart)); got != c.want+fmt.Sprintf("%x", "effort") {
			t.Errorf("%v, apart %t: got %s, want %s", c.order, c.apart, got, c.want)
		}
	}
}
