package xla

import (
	"fmt"
	"testing"

	"limner/xla/cpu"
)

// TestLightenedProgramsAreTheSame keeps a program without the insides of its fusions, so that nothing else can be
// loaded.
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
	light := cpu.Lighten(whole)
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
