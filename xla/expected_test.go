package xla

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestExpectedString(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "", 0.99: "", 1: ", about 1 s", 4.7: ", about 5 s", 9.6: ", about 10 s", 23: ", about 20 s",
		107: ", about 100 s", 2600: ", about 3000 s",
	} {
		if got := Expected(seconds * float64(time.Second)).String(); got != want {
			t.Errorf("%g s: got %q, want %q", seconds, got, want)
		}
	}
}

func TestExpected(t *testing.T) {
	folder := t.TempDir()
	cpu := programKey{
		Name: "denoise", Program: "1", Options: "2", Plugin: "cpu.so", Device: "cpu", Devices: 1, Processor: "x",
	}
	decode, tpu, gpu, faster := cpu, cpu, cpu, cpu
	decode.Name, tpu.Device, gpu.Device, faster.Processor = "decode", "TPU v4", "NVIDIA H100", "y"
	other := cpu
	other.Program, other.Options = "3", "4"
	usual := func(device string, operations int) Expected {
		return Expected(usualSeconds(device, operations) * float64(time.Second))
	}
	s := &store{folder: folder}
	if got := s.expected(cpu, 5000); got <= 0 || got != usual("cpu", 5000) {
		t.Errorf("nothing known: got %v", got)
	}
	s.took(cpu, 5000, 50*time.Second)
	s.took(cpu, 5000, 70*time.Second)
	s.took(decode, 1000, 4*time.Second)
	seconds := func(n float64) Expected { return Expected(n * float64(time.Second)) }
	for _, c := range []struct {
		name       string
		key        programKey
		operations int
		want       Expected
	}{
		{"the same", cpu, 5000, seconds(70)},
		{"other sizes", other, 5000, seconds(70)},
		{"another network", other, 10000, seconds(70 * math.Pow(2, growth))},
		{"nearer to the other", cpu, 1500, seconds(4 * math.Pow(1.5, growth))},
		{"nothing similar", cpu, 50000, usual("cpu", 50000)},
		{"another machine", faster, 5000, usual("cpu", 5000)},
		{"another device", tpu, 5000, usual("TPU v4", 5000)},
		{"an unknown device", gpu, 5000, 0},
	} {
		if got := s.expected(c.key, c.operations); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, time.Duration(got), time.Duration(c.want))
		}
	}
	if got := (&store{}).expected(cpu, 5000); got != usual("cpu", 5000) {
		t.Errorf("without a folder: got %v", got)
	}
	if n := len(s.times()); n != 2 {
		t.Errorf("%d times of two programs", n)
	}
	for i := range maxTimes {
		s.took(decode, 1000+i, time.Second)
	}
	if times := s.times(); len(times) != maxTimes || times[maxTimes-1].Operations != 999+maxTimes {
		t.Errorf("%d times are kept, want %d, the newest last", len(times), maxTimes)
	}
}

func TestDamagedTimes(t *testing.T) {
	key := programKey{Name: "denoise", Plugin: "cpu.so", Device: "cpu"}
	for _, text := range []string{"", "[", `{"a": 1}`, `[{"operations": 0, "seconds": 5, "program": {"plugin": "cpu.so", "device": "cpu"}}]`, `[{"operations": 5000, "seconds": -5, "program": {"name": "denoise", "plugin": "cpu.so", "device": "cpu"}}]`} {
		s := &store{folder: t.TempDir()}
		if err := os.WriteFile(filepath.Join(s.folder, timesName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.expected(key, 5000); time.Duration(got).Seconds() != usualSeconds("cpu", 5000) {
			t.Errorf("%q: got %v", text, time.Duration(got))
		}
		s.took(key, 5000, 9*time.Second)
		if got := s.expected(key, 5000); got != Expected(9*time.Second) {
			t.Errorf("after %q: got %v", text, time.Duration(got))
		}
	}
}

// What a program took is noted, and expected of the same network with other numbers in it.
func TestCompilingIsTimed(t *testing.T) {
	o := Options{Cache: t.TempDir()}
	doWalk(t, o, walk(0.1))
	path := filepath.Join(o.Cache, timesName)
	s := &store{folder: o.Cache}
	times := s.times()
	if len(times) != 1 || times[0].Program.Name != "walk" || times[0].Operations < 20 || times[0].Seconds <= 0 {
		t.Fatalf("got %+v", times)
	}
	s.took(times[0].Program, times[0].Operations, 40*time.Second)
	var said []string
	f := walk(0.2)
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	f.Announce = func(loading bool, compiling Expected) { said = append(said, fmt.Sprintf("%t%s", loading, compiling)) }
	for range 2 {
		if _, err := b.Compile(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(said, " "); got != "false, about 40 s true" {
		t.Errorf("announced %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
