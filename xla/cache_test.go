package xla

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"limner/xla/plugin"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// walk adds what a few layers make of x [4, 8] to its state [8, 8], in place, and returns a sum over the devices.
func walk(scale float64) Function {
	return Function{
		Name:   "walk",
		State:  []Value{{Name: "w", Shape: shapes.Make(dtypes.Float32, 8, 8)}},
		Inputs: []Value{{Name: "x", Shape: shapes.Make(dtypes.Float32, 4, 8), Sharding: Batch}},
		Build: func(_ *Graph, state, in []*Node) (next, outputs []*Node) {
			h := Tanh(Dot(in[0], state[0]))
			grad := Gradient(ReduceAllSum(Square(h)), state[0])[0]
			return []*Node{Sub(state[0], MulScalar(grad, scale))}, []*Node{ReduceAllSum(h)}
		},
	}
}

// walked is what becomes of a state in three steps of a process that has the options, and what it said.
type walked struct {
	values  []float32
	program *Program
	log     string
	loading []bool // what was announced
}

func doWalk(t *testing.T, o Options, f Function) walked {
	t.Helper()
	var log bytes.Buffer
	o.Log = &log
	b, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var w walked
	f.Announce = func(loading bool, _ Expected) { w.loading = append(w.loading, loading) }
	if w.program, err = b.Compile(context.Background(), f); err != nil {
		t.Fatal(err)
	}
	start := make([]float32, 64)
	for i := range start {
		start[i] = float32(i%7)/8 - 0.3
	}
	state, err := Fill(b, shapes.Make(dtypes.Float32, 8, 8), Replicated, func(to []byte) error {
		copy(to, bytesOf(start))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	x, err := Put(b, start[:32], Batch, 4, 8)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		out, err := w.program.Run([]*Array{state}, x)
		if err != nil {
			t.Fatal(err)
		}
		loss, err := Get[float32](out[0])
		if err != nil {
			t.Fatal(err)
		}
		w.values = append(w.values, loss...)
	}
	last, err := Get[float32](state)
	if err != nil {
		t.Fatal(err)
	}
	w.values, w.log = append(w.values, last...), log.String()
	return w
}

func TestLoadedProgramsAreTheSame(t *testing.T) {
	for _, devices := range []int{1, 4} {
		o := Options{Devices: devices, Cache: t.TempDir()}
		cold, warm := doWalk(t, o, walk(0.1)), doWalk(t, o, walk(0.1))
		if cold.program.FromCache || !warm.program.FromCache ||
			fmt.Sprint(cold.loading, warm.loading) != "[false] [true]" {
			t.Errorf("%d devices: loaded %t then %t, announced %v then %v",
				devices, cold.program.FromCache, warm.program.FromCache, cold.loading, warm.loading)
		}
		if fmt.Sprint(cold.values) != fmt.Sprint(warm.values) {
			t.Errorf("%d devices: compiled it gives %v, loaded %v", devices, cold.values, warm.values)
		}
		if m := warm.program.Memory(); m != cold.program.Memory() || m.Aliases != 256 {
			t.Errorf("%d devices: loaded it needs %+v, compiled %+v; want 256 bytes in place",
				devices, m, cold.program.Memory())
		}
		if other := doWalk(t, o, walk(0.2)); other.program.FromCache {
			t.Error("another program was loaded")
		}
		if cold.log+warm.log != "" {
			t.Errorf("said %q %q", cold.log, warm.log)
		}
	}
}

// only is the one file of a cache.
func only(t *testing.T, folder string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(folder, "*"+plugin.ExecutableExt))
	if err != nil || len(found) != 1 {
		t.Fatalf("got %v, %v, want one file", found, err)
	}
	return found[0]
}

func TestDamagedProgramsAreCompiledAnew(t *testing.T) {
	o := Options{Cache: t.TempDir()}
	good := doWalk(t, o, walk(0.1))
	path := only(t, o.Cache)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := openExecutables(path)
	if err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign")
	key := e.list[0].Key
	key.Plugin = "other.so 123"
	if err := writeExecutables(foreign, []programKey{key}, [][]byte{[]byte("not for this")}); err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	unloadable := filepath.Join(t.TempDir(), "unloadable")
	if err := writeExecutables(unloadable, []programKey{e.list[0].Key}, [][]byte{[]byte("no program")}); err != nil {
		t.Fatal(err)
	}
	nonsense, err := os.ReadFile(unloadable)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-100] ^= 1
	version := bytes.Clone(whole)
	version[8] = 7
	for _, c := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"empty", nil, "is no file of executables"},
		{"another format", version, "has format 7, this limner reads format 1"},
		{"cut short", whole[:len(whole)/2], "is damaged: walk has"},
		{"cut in the header", whole[:40], "is damaged: a header of"},
		{"longer", append(bytes.Clone(whole), 0), "its header speaks of"},
		{"a flipped bit", flipped, "walk has another SHA-256"},
		{"of another program", other, "is of another program"},
		{"whole and no program", nonsense, "compiling anew: load " + path},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, c.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			anew := doWalk(t, o, walk(0.1))
			if anew.program.FromCache || strings.Count(anew.log, "\n") != 1 || !strings.Contains(anew.log, path) ||
				!strings.Contains(anew.log, c.want) {
				t.Errorf("loaded %t, said %q, want one line with %q", anew.program.FromCache, anew.log, c.want)
			}
			if fmt.Sprint(anew.values) != fmt.Sprint(good.values) {
				t.Error("other values")
			}
			if again := doWalk(t, o, walk(0.1)); !again.program.FromCache || again.log != "" {
				t.Errorf("afterwards: loaded %t, said %q", again.program.FromCache, again.log)
			}
		})
	}
}

func TestNoFolderForTheCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := doWalk(t, Options{Cache: filepath.Join(file, "below")}, walk(0.1))
	if want := "compiled programs are not kept: "; !strings.HasPrefix(w.log, want) || strings.Count(w.log, "\n") != 1 {
		t.Errorf("said %q, want one line that begins with %q", w.log, want)
	}
}

func TestCacheLimit(t *testing.T) {
	folder := t.TempDir()
	s, err := openStore(Options{Cache: folder})
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * time.Hour)
	for i, name := range []string{"a", "b", "c", "d"} {
		path := filepath.Join(folder, name+plugin.ExecutableExt)
		if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, long, long.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for name, changed := range map[string]time.Time{
		".left" + plugin.ExecutableExt + "123": long, ".new" + plugin.ExecutableExt + "123": time.Now(),
		"mine.txt": long,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(folder, name), changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	s.limit = 250
	// just written, by a clock that goes wrong
	if err := s.prune(filepath.Join(folder, "a"+plugin.ExecutableExt)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), ".new.executable123 a.executable d.executable mine.txt"; got != want {
		t.Errorf("left are %s, want %s", got, want)
	}
}

// A program that is loaded counts as used.
func TestCacheRemembersUse(t *testing.T) {
	o := Options{Cache: t.TempDir()}
	doWalk(t, o, walk(0.1))
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(only(t, o.Cache), long, long); err != nil {
		t.Fatal(err)
	}
	doWalk(t, o, walk(0.1))
	if info, err := os.Stat(only(t, o.Cache)); err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Errorf("it is not marked as used: %v, %v", info.ModTime(), err)
	}
}
