package xla_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla"
)

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

// counter adds the mean of x [4, 2] to its state [2], and returns twice x.
func counter(xShape ...int) xla.Function {
	return xla.Function{
		Name:    "counter",
		State:   []xla.Value{{Name: "sum", Shape: shapes.Make(dtypes.Float32, 2)}},
		Inputs:  []xla.Value{{Name: "x", Shape: shapes.Make(dtypes.Float32, xShape...), Sharding: xla.Batch}},
		Outputs: []xla.Sharding{xla.Batch},
		Build: func(_ *Graph, state, in []*Node) (next, outputs []*Node) {
			return []*Node{Add(state[0], ReduceMean(in[0], 0))}, []*Node{MulScalar(in[0], 2)}
		},
	}
}

// TestCompileLeavesTheCompiler cancels a compilation while it runs.
func TestCompileLeavesTheCompiler(t *testing.T) {
	b, err := xla.Open(context.Background(), xla.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan struct{})
	defer close(left)
	f := counter(4, 2)
	f.Announce = func(bool, xla.Expected) { // where the compiler begins, which would then go on for minutes
		cancel()
		<-left
	}
	if _, err := b.Compile(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestApart runs a program that sees one device's rows, and then one that sees all.
func TestApart(t *testing.T) {
	value := func(name string) xla.Value {
		return xla.Value{Name: name, Shape: shapes.Make(dtypes.Float32, 4, 2), Sharding: xla.Batch}
	}
	for i, devices := range []int{1, 2, 4, 4} {
		b, apart := open(t, devices), i < 3
		want, rows := 4/devices, 0
		if !apart {
			want = 4
		}
		p, err := b.Compile(context.Background(), xla.Function{
			Name: "apart", Apart: apart, State: []xla.Value{value("sum")}, Outputs: []xla.Sharding{xla.Batch},
			Inputs: []xla.Value{value("x"), {Name: "rate", Shape: shapes.Make(dtypes.Float32)}},
			Build: func(_ *Graph, state, in []*Node) (next, outputs []*Node) {
				rows = in[0].Shape().Dim(0)
				return []*Node{Add(state[0], in[0])}, []*Node{Mul(in[0], in[1])}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if rows != want {
			t.Errorf("%d devices: a program sees %d rows, want %d", devices, rows, want)
		}
		if got, want := p.Memory().Aliases, int64(32/devices); got != want {
			t.Errorf("%d devices: %d bytes of state are written in place, want %d", devices, got, want)
		}
		put := func(values []float32, sharding xla.Sharding, dims ...int) *xla.Array {
			a, err := xla.Put(b, values, sharding, dims...)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		x := put([]float32{1, 2, 3, 4, 5, 6, 7, 8}, xla.Batch, 4, 2)
		sum := put(make([]float32, 8), xla.Batch, 4, 2)
		rate := put([]float32{3}, xla.Replicated)
		var out []*xla.Array
		for range 2 {
			if out, err = p.Run([]*xla.Array{sum}, x, rate); err != nil {
				t.Fatal(err)
			}
		}
		checkValues(t, sum, 2, 4, 6, 8, 10, 12, 14, 16)
		checkValues(t, out[0], 3, 6, 9, 12, 15, 18, 21, 24)
	}
}

func TestProgramKeepsItsState(t *testing.T) {
	for _, devices := range []int{1, 2, 4} {
		b := open(t, devices)
		p, err := b.Compile(context.Background(), counter(4, 2))
		if err != nil {
			t.Fatal(err)
		}
		stats := p.Memory()
		if stats.Aliases != 8 {
			t.Errorf("%d devices: %d bytes of state are written in place, want 8", devices, stats.Aliases)
		}
		state, err := xla.Put(b, []float32{10, 20}, xla.Replicated, 2)
		if err != nil {
			t.Fatal(err)
		}
		x, err := xla.Put(b, []float32{1, 2, 3, 4, 5, 6, 7, 8}, xla.Batch, 4, 2)
		if err != nil {
			t.Fatal(err)
		}
		var out []*xla.Array
		for range 3 {
			if out, err = p.Run([]*xla.Array{state}, x); err != nil {
				t.Fatal(err)
			}
		}
		checkValues(t, state, 10+3*4, 20+3*5)
		checkValues(t, out[0], 2, 4, 6, 8, 10, 12, 14, 16)
		if err := x.Free(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run([]*xla.Array{state}, x); err == nil || !strings.Contains(err.Error(), "x was freed") {
			t.Errorf("a freed input: got %v", err)
		}
	}
}

func checkValues(t *testing.T, a *xla.Array, want ...float32) {
	t.Helper()
	got, err := xla.Get[float32](a)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestErrorsInsteadOfPanics(t *testing.T) {
	b := open(t, 2)
	ctx := context.Background()
	if _, err := b.Compile(ctx, counter(3, 2)); err == nil ||
		!strings.Contains(err.Error(), "does not divide over 2 devices: use a multiple of 2") {
		t.Errorf("an odd batch: got %v", err)
	}
	grows := counter(4, 2)
	grows.Build = func(_ *Graph, state, in []*Node) (next, outputs []*Node) { return in, nil }
	if _, err := b.Compile(ctx, grows); err == nil || !strings.Contains(err.Error(), "state sum comes out as") {
		t.Errorf("a state of another shape: got %v", err)
	}
	wrong := counter(4, 2)
	wrong.Build = func(_ *Graph, state, in []*Node) (next, outputs []*Node) {
		return state, []*Node{Add(state[0], Zeros(state[0].Graph(), shapes.Make(dtypes.Float32, 3)))}
	}
	if _, err := b.Compile(ctx, wrong); err == nil || !strings.Contains(err.Error(), "compile counter") {
		t.Errorf("shapes that do not fit: got %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := b.Compile(cancelled, counter(4, 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	p, err := b.Compile(ctx, counter(4, 2))
	if err != nil {
		t.Fatal(err)
	}
	x, err := xla.Put(b, make([]float32, 4), xla.Batch, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(nil, x); err == nil ||
		!strings.Contains(err.Error(), "got 0 states and 1 inputs, want 1 and 1") {
		t.Errorf("a missing state: got %v", err)
	}
	if _, err := p.Run([]*xla.Array{x}, x); err == nil || !strings.Contains(err.Error(), "input sum") {
		t.Errorf("a state of another shape: got %v", err)
	}
	if _, err := xla.Put(b, make([]float32, 3), xla.Replicated, 2); err == nil {
		t.Error("3 values for a shape of 2 were accepted")
	}
	if _, err := xla.Get[int32](x); err == nil {
		t.Error("floats were read as integers")
	}
}

func TestTry(t *testing.T) {
	failure := errors.New("broken")
	if err := xla.Try(func() { panic(failure) }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if err := xla.Try(func() { panic("text") }); err == nil || err.Error() != "text" {
		t.Errorf("got %v", err)
	}
	defer func() {
		if _, ok := recover().(runtime.Error); !ok {
			t.Error("a mistake of ours was turned into an error")
		}
	}()
	var none []int
	_ = xla.Try(func() { none[0]++ })
}
