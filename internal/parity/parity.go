// Package parity runs networks on the CPU and compares them with goldens.
package parity

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/internal/golden"
	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/unet"
	"limner/xla"
)

// Tensor is a tensor of a golden in our layout.
type Tensor struct {
	Data  []float32
	Shape []int
}

// File is an open golden.
type File struct {
	*checkpoint.File
	t testing.TB
}

// Open opens a safetensors golden.
func Open(t testing.TB, parts ...string) File {
	t.Helper()
	f, err := checkpoint.Open(golden.Path(t, parts...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return File{f, t}
}

// Has says whether the golden holds a tensor.
func (f File) Has(key string) bool {
	_, ok := f.Tensor(key)
	return ok
}

// Get returns a tensor as it stands in the file.
func (f File) Get(key string) Tensor {
	f.t.Helper()
	tensor, ok := f.Tensor(key)
	if !ok {
		f.t.Fatalf("%s has no tensor %s", f.Path(), key)
	}
	data, err := tensor.Float32s()
	if err != nil {
		f.t.Fatal(err)
	}
	return Tensor{data, tensor.Shape}
}

// Image returns a tensor [batch, channels, height, width] as [batch, height, width, channels]; others as they are.
func (f File) Image(key string) Tensor {
	f.t.Helper()
	return f.Get(key).NHWC()
}

// UNetInputs are the inputs of a UNet in a golden, for Run; UNetNodes finds them there. Their keys begin with prefix.
func (f File) UNetInputs(prefix string) []Tensor {
	f.t.Helper()
	inputs := []Tensor{f.Image(prefix + "sample"), f.Get(prefix + "timestep"), f.Get(prefix + "encoder_hidden_states")}
	for _, key := range []string{prefix + "added.text_embeds", prefix + "added.time_ids"} {
		if f.Has(key) {
			inputs = append(inputs, f.Get(key))
		}
	}
	return inputs
}

// UNetNodes are the nodes of what UNetInputs gave to Run.
func UNetNodes(in []*Node) (sample, timesteps *Node, context unet.Context) {
	context.Text = in[2]
	if len(in) > 3 {
		context.Pooled, context.TimeIDs = in[3], in[4]
	}
	return in[0], in[1], context
}

// NHWC moves the channels of a tensor of rank 4 behind.
func (x Tensor) NHWC() Tensor {
	if len(x.Shape) != 4 {
		return x
	}
	n, c, h, w := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	out := Tensor{make([]float32, len(x.Data)), []int{n, h, w, c}}
	for i := range n {
		for ch := range c {
			for px := range h * w {
				out.Data[(i*h*w+px)*c+ch] = x.Data[(i*c+ch)*h*w+px]
			}
		}
	}
	return out
}

// Map applies f to every element.
func (x Tensor) Map(f func(float32) float32) Tensor {
	out := Tensor{make([]float32, len(x.Data)), x.Shape}
	for i, v := range x.Data {
		out.Data[i] = f(v)
	}
	return out
}

// FromPixels maps bytes to [-1, 1]; FromCondition maps them to [0, 1].
func FromPixels(v float32) float32    { return 2*v/255 - 1 }
func FromCondition(v float32) float32 { return v / 255 }

var shared = sync.OnceValues(func() (*xla.Backend, error) {
	return xla.Open(context.Background(), xla.Options{Log: os.Stderr})
})

// Backend is one CPU device, shared by the tests of a package.
func Backend(t testing.TB) *xla.Backend {
	t.Helper()
	b, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Config reads and parses a config.json among the goldens.
func Config[C any](t testing.TB, parse func([]byte) (C, error), parts ...string) C {
	t.Helper()
	raw, err := os.ReadFile(golden.Path(t, parts...))
	if err != nil {
		t.Fatal(err)
	}
	c, err := parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Model is a network's parameters from a diffusers folder among the goldens.
type Model struct {
	Tree   nn.Tree
	Values nn.Values
}

// Load reads the parameters that tree lists from a component's folder.
func Load(t testing.TB, tree nn.Tree, parts ...string) Model {
	t.Helper()
	return LoadDir(t, tree, golden.Path(t, parts...))
}

// LoadDir is Load for any folder.
func LoadDir(t testing.TB, tree nn.Tree, dir string) Model {
	t.Helper()
	m, err := checkpoint.OpenModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	values, err := m.Load(tree)
	if err != nil {
		t.Fatal(err)
	}
	return Model{tree, values}
}

// Shrink multiplies every parameter without "norm" in its key by factor, as the eps_probe goldens do.
func (m Model) Shrink(factor float32) Model {
	out := Model{m.Tree, nn.Values{}}
	for key, data := range m.Values {
		if !strings.Contains(key, "norm") {
			data = Tensor{data, nil}.Map(func(v float32) float32 { return v * factor }).Data
		}
		out.Values[key] = data
	}
	return out
}

// Results are named outputs of a run.
type Results map[string]Tensor

// Run compiles build for the inputs, all float32, and runs it with the model's parameters. Every node that build puts into the
// map it is given is returned.
func Run(t testing.TB, m Model, inputs []Tensor, build func(p nn.Params, in []*Node, out map[string]*Node)) Results {
	t.Helper()
	b := Backend(t)
	f := xla.Function{Name: "parity"}
	var args []*xla.Array
	put := func(name string, x Tensor) {
		a, err := xla.Put(b, x.Data, xla.Replicated, x.Shape...)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, a)
		f.Inputs = append(f.Inputs, xla.Value{Name: name, Shape: shapes.Make(dtypes.Float32, x.Shape...)})
	}
	for _, spec := range m.Tree {
		put(spec.Key, Tensor{m.Values[spec.Key], spec.Shape})
	}
	for i, in := range inputs {
		put(fmt.Sprintf("input%d", i), in)
	}
	var names []string
	f.Build = func(g *Graph, _, in []*Node) (next, outputs []*Node) {
		named := map[string]*Node{}
		build(nn.Bind(m.Tree, in[:len(m.Tree)]), in[len(m.Tree):], named)
		for name, node := range named {
			names = append(names, name)
			outputs = append(outputs, node)
		}
		return nil, outputs
	}
	program, err := b.Compile(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	outputs, err := program.Run(nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	results := Results{}
	for i, a := range outputs {
		data, err := xla.Get[float32](a)
		if err != nil {
			t.Fatal(err)
		}
		results[names[i]] = Tensor{data, a.Shape().Dimensions}
	}
	return results
}

// Check compares got with want: the largest difference relative to want's largest magnitude must not exceed tolerance.
func Check(t testing.TB, name string, got, want Tensor, tolerance float64) {
	t.Helper()
	if fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) {
		t.Errorf("%s: got shape %v, want %v", name, got.Shape, want.Shape)
		return
	}
	var worst, largest float64
	at := 0
	for i, w := range want.Data {
		largest = max(largest, math.Abs(float64(w)))
		if d := math.Abs(float64(got.Data[i]) - float64(w)); d > worst || math.IsNaN(d) {
			worst, at = d, i
		}
	}
	if !(worst <= tolerance*largest) {
		t.Errorf("%s: error %.2g, tolerance %.2g; worst at index %d: got %g, want %g", name, worst/largest, tolerance, at, got.Data[at], want.Data[at])
	}
}
