package program_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/xla"
	"limner/xla/program"
)

var tree = nn.Tree{{Key: "scale", Shape: []int{2}}, {Key: "shift", Shape: []int{2}}}

// affine adds scale·x + shift to its state, and returns twice x and the state as it was.
func affine() program.Function {
	vector := func(name string) xla.Value { return xla.Value{Name: name, Shape: shapes.Make(dtypes.Float32, 2)} }
	return program.Function{
		Name: "affine", State: []xla.Value{vector("sum")},
		Inputs:  append(program.Parameters(tree, dtypes.Float32), vector("x")),
		Outputs: []xla.Value{{Name: "twice"}, {Name: "before"}},
		Build: func(in program.Nodes) (next, outputs program.Nodes) {
			p := nn.Bind(tree, in.Of(tree))
			param := func(i int) *Node { return p.Param(tree[i].Key, nn.Vector, nn.InitZeros, 0, 2) }
			x, sum := in.Get("x"), in.Get("sum")
			next = program.Nodes{"sum": Add(sum, Add(Mul(param(0), x), param(1)))}
			return next, program.Nodes{"before": MulScalar(sum, 1), "twice": MulScalar(x, 2)}
		},
	}
}

func open(t *testing.T) *xla.Backend {
	t.Helper()
	b, err := xla.Open(context.Background(), xla.Options{Devices: 1, Effort: xla.EffortQuick, Log: os.Stderr})
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

func put(t *testing.T, b *xla.Backend, values ...float32) *xla.Array {
	t.Helper()
	a, err := xla.Put(b, values, xla.Replicated, len(values))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func check(t *testing.T, name string, a *xla.Array, want ...float32) {
	t.Helper()
	if got, err := xla.Get[float32](a); err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: got %v (%v), want %v", name, got, err, want)
	}
}

// parameters are those of affine on the devices.
func parameters(t *testing.T, b *xla.Backend) program.Arrays {
	t.Helper()
	arrays := program.Arrays{}
	weights := checkpoint.InMemory(nn.Values{"scale": {1, 2}, "shift": {10, 20}})
	if err := arrays.Load(b, weights, tree, program.Parameters(tree, dtypes.Float32)); err != nil {
		t.Fatal(err)
	}
	return arrays
}

func TestRun(t *testing.T) {
	b := open(t)
	p, err := program.Compile(context.Background(), b, affine())
	if err != nil {
		t.Fatal(err)
	}
	params := parameters(t, b)
	params["of another program"] = put(t, b, 1, 2, 3)
	state, err := program.PutZeros(b, affine().State)
	if err != nil {
		t.Fatal(err)
	}
	held := state["sum"]
	for range 2 {
		out, err := p.Run(state, program.Arrays{"x": put(t, b, 3, 4)}, params)
		if err != nil {
			t.Fatal(err)
		}
		check(t, "twice", out["twice"], 6, 8)
	}
	check(t, "the state, in the array that was there", held, 26, 56)
	// An input of its own goes before the others'.
	out, err := p.Run(state, program.Arrays{"x": put(t, b, 0, 0), "shift": put(t, b, -26, -56)}, params)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "before", out["before"], 26, 56)
	check(t, "sum", held, 0, 0)
}

// The order in which the text has its arrays is that of the declaration, whatever that of maps is.
func TestOrder(t *testing.T) {
	b := open(t)
	var first string
	for range 8 {
		p, err := program.Compile(context.Background(), b, affine())
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(p.StableHLO(), "\n") // the name of the module counts programs
		if first == "" {
			first = text
		}
		if text != first {
			t.Fatalf("another text:\n%s\n%s", text, first)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	b := open(t)
	p, err := program.Compile(context.Background(), b, affine())
	if err != nil {
		t.Fatal(err)
	}
	params, sum, x := parameters(t, b), put(t, b, 0, 0), put(t, b, 0, 0)
	for want, c := range map[string]struct{ state, inputs program.Arrays }{
		"run affine: state sum was not given": {program.Arrays{}, program.Arrays{"x": x}},
		"run affine: it has no state y":       {program.Arrays{"sum": sum, "y": x}, program.Arrays{"x": x}},
		"run affine: input x was not given":   {program.Arrays{"sum": sum}, nil},
		"run affine: it has no input y":       {program.Arrays{"sum": sum}, program.Arrays{"x": x, "y": x}},
		"input x: got (Float32)[3], want":     {program.Arrays{"sum": sum}, program.Arrays{"x": put(t, b, 1, 2, 3)}},
	} {
		if _, err := p.Run(c.state, c.inputs, params); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	check(t, "sum, which no run has touched", sum, 0, 0)
}

func TestCompileRefuses(t *testing.T) {
	b := open(t)
	for want, change := range map[string]func(f *program.Function){
		"two arrays are named x": func(f *program.Function) { f.State[0].Name = "x" },
		"no input is named y": func(f *program.Function) {
			f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
				return program.Nodes{"sum": in.Get("y")}, nil
			}
		},
		"state sum was not built": func(f *program.Function) {
			f.Build = func(program.Nodes) (next, outputs program.Nodes) { return nil, nil }
		},
		"output x was built, but is not described": func(f *program.Function) {
			f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
				return program.Nodes{"sum": in["sum"]}, in
			}
			f.Outputs = []xla.Value{{Name: "sum"}, {Name: "scale"}, {Name: "shift"}}
		},
	} {
		f := affine()
		change(&f)
		if _, err := program.Compile(context.Background(), b, f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestSetKeepsTheArray(t *testing.T) {
	b := open(t)
	arrays := program.Arrays{"a": put(t, b, 1)}
	held := arrays["a"]
	if err := arrays.Set("a", put(t, b, 2)); err != nil {
		t.Fatal(err)
	}
	check(t, "the array of others", held, 2)
	if err := arrays.Free(); err != nil {
		t.Fatal(err)
	}
	if err := arrays.Set("a", put(t, b, 3)); err != nil {
		t.Fatal(err)
	}
	check(t, "after it was freed", held, 3)
}
