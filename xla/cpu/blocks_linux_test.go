package cpu_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"limner/xla"
	"limner/xla/cpu"
)

const megabyte = 1 << 20

func open(t *testing.T, devices int) *xla.Backend {
	t.Helper()
	b, err := xla.Open(context.Background(), xla.Options{Devices: devices, Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// pattern is an array of so many megabytes that no other seed has.
func pattern(seed uint64, megabytes int) []float32 {
	data := make([]float32, megabytes*megabyte/4)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range data {
		data[i] = r.Float32()
	}
	return data
}

func put(t *testing.T, b *xla.Backend, data []float32) *xla.Array {
	t.Helper()
	a, err := xla.Put(b, data, xla.Replicated, len(data))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What is freed is kept, divided and joined again, but never more of it than was in use at once.
func TestBlocksAreKept(t *testing.T) {
	b := open(t, 1)
	kept := func(want int64) {
		t.Helper()
		const slack = 4 * megabyte // XLA asks for a little more than the array
		got := cpu.Kept()
		for range 1000 { // it frees when nobody uses the array any longer, which is a little later
			if got >= want && got <= want+slack {
				return
			}
			time.Sleep(10 * time.Millisecond)
			got = cpu.Kept()
		}
		t.Fatalf("%d bytes are kept, want %d", got, want)
	}
	cpu.Trim()
	kept(0)
	for i, step := range []struct {
		put        []int // arrays of so many MB
		kept, left int64 // MB, while they are there and when they are freed
	}{
		{[]int{64}, 0, 64},
		{[]int{16, 40}, 64 - 16 - 40, 64}, // both from what is kept
		{[]int{64}, 0, 64},                // which is whole again
		{[]int{96}, 0, 96},                // for this one it goes
		{[]int{48, 64}, 0, 48 + 64},
	} {
		var arrays []*xla.Array
		for j, megabytes := range step.put {
			arrays = append(arrays, put(t, b, pattern(uint64(10*i+j), megabytes)))
		}
		kept(max(0, step.kept-4) * megabyte)
		for _, a := range arrays {
			if err := a.Free(); err != nil {
				t.Fatal(err)
			}
		}
		kept(step.left * megabyte)
	}
	cpu.Trim()
	kept(0)
}

// Arrays of all sizes that several goroutines put and free at the same time hold what was put.
func TestBlocksHoldWhatWasPut(t *testing.T) {
	b := open(t, 1)
	var wait sync.WaitGroup
	for worker := range uint64(3) {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(7, worker))
			type entry struct {
				array *xla.Array
				data  []float32
			}
			var held []entry
			for round := range uint64(40) {
				data := pattern(worker<<32|round, 1+r.IntN(16))
				a, err := xla.Put(b, data, xla.Replicated, len(data))
				if err != nil {
					t.Error(err)
					return
				}
				held = append(held, entry{a, data})
				if len(held) < 4 {
					continue
				}
				i := r.IntN(len(held))
				got, err := xla.Get[float32](held[i].array)
				if err != nil {
					t.Error(err)
					return
				}
				for j := range got {
					if got[j] != held[i].data[j] {
						t.Errorf("goroutine %d, round %d: got %v at %d, want %v",
							worker, round, got[j], j, held[i].data[j])
						return
					}
				}
				if err := held[i].array.Free(); err != nil {
					t.Error(err)
					return
				}
				held = append(held[:i], held[i+1:]...)
			}
			for _, e := range held {
				if err := e.array.Free(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

// Where another allocator was loaded before the C library, it gets all that it gave back, and nothing else.
func TestUnderAnotherAllocator(t *testing.T) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler is here to build the other allocator")
	}
	library := filepath.Join(t.TempDir(), "allocator.so")
	if out, err := exec.Command(compiler, "-O1", "-shared", "-fPIC", "-o", library, "testdata/allocator.c").
		CombinedOutput(); err != nil {
		t.Fatalf("build the allocator: %v\n%s", err, out)
	}
	command := exec.Command(os.Args[0], "-test.run", "^TestBlocks")
	command.Env = append(os.Environ(), "LD_PRELOAD="+library)
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The switch leaves the layers to XLA and the memory to the C library.
func TestSwitch(t *testing.T) {
	if os.Getenv(cpu.Switch) != "off" {
		command := exec.Command(os.Args[0], "-test.run", "^TestSwitch$", "-test.v")
		command.Env = append(os.Environ(), cpu.Switch+"=off")
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		t.Setenv(cpu.Switch, "of")
		if _, err := xla.Open(t.Context(), xla.Options{}); err == nil || !strings.Contains(err.Error(), cpu.Switch) {
			t.Errorf("got %v, want an error that names %s", err, cpu.Switch)
		}
		return
	}
	b := open(t, 1)
	if f := b.Forward(); f.Normalization != nil || f.Convolution != nil || f.Attention != nil {
		t.Error("layers of our own are used though they are switched off")
	}
	a := put(t, b, pattern(1, 64))
	if err := a.Free(); err != nil {
		t.Fatal(err)
	}
	if n := cpu.Kept(); n != 0 {
		t.Errorf("%d bytes are kept though that is switched off", n)
	}
}
