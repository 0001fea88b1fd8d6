package xla

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla/pjrt"
)

// A product reads the matrix that lies in a state's array now, not what lay there at the first run: see Effort.cpu.
func TestProductsOfStateInPlace(t *testing.T) {
	b, err := Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct{ rows, in, out int }{{16, 64, 64}, {256, 128, 128}, {256, 512, 128}, {1024, 256, 64}} {
		t.Run(fmt.Sprintf("%d rows, %d to %d", c.rows, c.in, c.out), func(t *testing.T) {
			weights := Value{Name: "weights", Shape: shapes.Make(dtypes.Float32, c.in, c.out)}
			compile := func(f Function) *Program {
				p, err := b.Compile(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { p.Close() })
				return p
			}
			product := compile(Function{
				Name: "product", Inputs: []Value{
					weights, {Name: "x", Shape: shapes.Make(dtypes.Float32, c.rows, c.in)},
				},
				Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
					return nil, []*Node{ReduceAllMax(MatMul(in[1], in[0]))}
				},
			})
			update := compile(Function{
				Name: "update", State: []Value{weights},
				Build: func(_ *Graph, state, _ []*Node) (next, outputs []*Node) {
					return []*Node{AddScalar(state[0], 1)}, nil
				},
			})
			ones := make([]float32, c.rows*c.in)
			for i := range ones {
				ones[i] = 1
			}
			x, err := Put(b, ones, Replicated, c.rows, c.in)
			if err != nil {
				t.Fatal(err)
			}
			w, err := Put(b, make([]float32, c.in*c.out), Replicated, c.in, c.out)
			if err != nil {
				t.Fatal(err)
			}
			state := []*Array{w}
			for step := range 4 {
				out, err := product.Run(nil, state[0], x)
				if err != nil {
					t.Fatal(err)
				}
				got, err := Get[float32](out[0])
				if err != nil {
					t.Fatal(err)
				}
				if want := float32(step * c.in); got[0] != want {
					t.Errorf("run %d: got %g, want %g", step+1, got[0], want)
				}
				if _, err := update.Run(state); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Of a state that is replaced in place there is no second copy, as there is of an input that is replaced by an output.
func TestUpdateInPlace(t *testing.T) {
	const elements, bytes = 64 << 20, 256 << 20
	b, err := Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	value := []Value{{Name: "x", Shape: shapes.Make(dtypes.Float32, elements)}}
	grown := func(f Function) int64 {
		p, err := b.Compile(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		x, err := Put(b, make([]float32, elements), Replicated, elements)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200); err != nil {
			t.Skip(err)
		}
		before := statusBytes(t, "VmRSS")
		for range 20 {
			if len(f.State) > 0 {
				if _, err := p.Run([]*Array{x}); err != nil {
					t.Fatal(err)
				}
				continue
			}
			out, err := p.Run(nil, x)
			if err = errors.Join(err, x.Free()); err != nil {
				t.Fatal(err)
			}
			x = out[0]
		}
		peak := statusBytes(t, "VmHWM") - before
		if got, err := Get[float32](x); err != nil || got[0] != 20 || got[elements-1] != 20 {
			t.Errorf("got %g and %g, want 20 (%v)", got[0], got[elements-1], err)
		}
		if err := x.Free(); err != nil {
			t.Error(err)
		}
		return peak
	}
	inPlace := grown(Function{
		Name: "in_place", State: value,
		Build: func(_ *Graph, state, _ []*Node) (next, outputs []*Node) {
			return []*Node{AddScalar(state[0], 1)}, nil
		},
	})
	copied := grown(Function{
		Name: "copied", Inputs: value,
		Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			return nil, []*Node{AddScalar(in[0], 1)}
		},
	})
	t.Logf("peak above the state: in place %d MB, copied %d MB", inPlace>>20, copied>>20)
	if inPlace > bytes/8 || copied < bytes*3/4 {
		t.Errorf("the peak grows by %d MB in place, want none, and by %d MB with a copy, want %d",
			inPlace>>20, copied>>20, bytes>>20)
	}
}

// statusBytes is a figure of /proc/self/status.
func statusBytes(t *testing.T, key string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Skipf("/proc/self/status has no %s", key)
	return 0
}

// A process that has two of a program's four devices brings the buffers of those. The CPU plugin's one process has all
// four and says that it wants theirs: so the call got through to it.
func TestRunOnAPart(t *testing.T) {
	b, err := Open(t.Context(), Options{Devices: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p, err := b.Compile(t.Context(), walk(0.1))
	if err != nil {
		t.Fatal(err)
	}
	state, err := Put(b, make([]float32, 64), Replicated, 8, 8)
	if err != nil {
		t.Fatal(err)
	}
	x, err := Put(b, make([]float32, 32), Batch, 4, 8)
	if err != nil {
		t.Fatal(err)
	}
	buffers := []*pjrt.Buffer{state.shards[0], x.shards[0], state.shards[1], x.shards[1]}
	if _, err := p.loaded.Execute(buffers, 2, 1); err == nil || !strings.Contains(err.Error(), "2 argument lists") {
		t.Errorf("got %v, want the plugin's error of 2 argument lists", err)
	}
	if err := x.shards[1].Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.loaded.Execute(buffers, 2, 1); err == nil || !strings.Contains(err.Error(), "argument 3 was freed") {
		t.Errorf("got %v, want that argument 3 was freed", err)
	}
	_, err = p.loaded.Execute(buffers[:3], 2, 1)
	if want := "3 arguments, 1 of them donated, for 2 devices"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
