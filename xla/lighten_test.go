package xla

import (
	"bytes"
	"fmt"
	"testing"
)

// TestLightenedProgramsAreTheSame keeps a program without the insides of its fusions, so that nothing else can be loaded.
func TestLightenedProgramsAreTheSame(t *testing.T) {
	o := Options{Cache: t.TempDir()}
	cold := doWalk(t, o, walk(0.1))
	path := only(t, o.Cache)
	e, err := openExecutables(path)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := e.payload(0)
	if err != nil {
		t.Fatal(err)
	}
	light := lighten(whole)
	if len(light) >= len(whole) {
		t.Errorf("of %d bytes %d are left", len(whole), len(light))
	}
	if err := writeExecutables(path, []programKey{e.list[0].Key}, [][]byte{light}); err != nil {
		t.Fatal(err)
	}
	warm := doWalk(t, o, walk(0.1))
	if !warm.program.FromCache || warm.log != "" {
		t.Errorf("it was compiled anew: %q", warm.log)
	}
	if fmt.Sprint(cold.values) != fmt.Sprint(warm.values) {
		t.Errorf("compiled it gives %v, loaded %v", cold.values, warm.values)
	}
	if m := warm.program.Memory(); m != cold.program.Memory() {
		t.Errorf("loaded it needs %+v, compiled %+v", m, cold.program.Memory())
	}
}

func FuzzLighten(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x0a\x17\x0a\x15\x0a\x13\x1a\x11\x30\x01\x38\x01\x12\x06\x12\x01a\x98\x02\x01\x12\x03\x98\x02\x02")) // the inside of a fusion
	f.Add([]byte("\x0a\x17\x0a\x15\x0a\x13\x1a\x11\x12\x0f\x12\x06fusion\x5a\x05kLoop"))                               // a fusion
	f.Fuzz(func(t *testing.T, program []byte) {
		light := lighten(program)
		if again := lighten(light); !bytes.Equal(light, again) {
			t.Errorf("%x becomes %x, and that %x", program, light, again)
		}
	})
}
