package cpu

import (
	"bytes"
	"testing"
)

func FuzzLighten(f *testing.F) {
	f.Add([]byte{})
	// The inside of a fusion, then a fusion.
	f.Add([]byte("\x0a\x17\x0a\x15\x0a\x13\x1a\x11\x30\x01\x38\x01\x12\x06\x12\x01a\x98\x02\x01\x12\x03\x98\x02\x02"))
	f.Add([]byte("\x0a\x17\x0a\x15\x0a\x13\x1a\x11\x12\x0f\x12\x06fusion\x5a\x05kLoop"))
	f.Fuzz(func(t *testing.T, program []byte) {
		light := Lighten(program)
		if again := Lighten(light); !bytes.Equal(light, again) {
			t.Errorf("%x becomes %x, and that %x", program, light, again)
		}
	})
}
