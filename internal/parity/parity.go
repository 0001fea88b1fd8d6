// Package parity runs networks on the CPU and compares them with goldens.
package parity

import (
	"context"
	"errors"
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
	"limner/models/safetensors"
	"limner/models/unet"
	"limner/xla"
	"limner/xla/program"
)

// Tensor is a tensor of a golden in our layout.
type Tensor struct {
	Data  []float32
	Shape []int
}

// File is an open golden.
type File struct {
	*safetensors.File
	t testing.TB
}

// Open opens a safetensors golden.
func Open(t testing.TB, parts ...string) File {
	t.Helper()
	return OpenFile(t, golden.Path(t, parts...))
}

// OpenFile opens any safetensors file.
func OpenFile(t testing.TB, path string) File {
	t.Helper()
	f, err := safetensors.Open(path)
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

// Get returns a tensor in the file's layout.
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

// UNetNodes are the nodes of the inputs that UNetInputs lists.
func UNetNodes(in []*Node) (sample, timesteps *Node, context unet.Context) {
	context.Text = in[2]
	if len(in) > 3 {
		context.Pooled, context.TimeIDs = in[3], in[4]
	}
	return in[0], in[1], context
}

// NHWC moves the channels of a tensor of rank 4 to the last axis.
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

// FileOrder converts values from memory's layout to that of a diffusers file.
func FileOrder(spec nn.Spec, data []float32) Tensor {
	x := Tensor{Data: make([]float32, len(data)), Shape: spec.FileShape()}
	switch spec.Kind {
	case nn.Dense:
		in, out := spec.Shape[0], spec.Shape[1]
		for i := range in {
			for o := range out {
				x.Data[o*in+i] = data[i*out+o]
			}
		}
	case nn.Kernel:
		px, in, out := spec.Shape[0]*spec.Shape[1], spec.Shape[2], spec.Shape[3]
		for p := range px {
			for i := range in {
				for o := range out {
					x.Data[(o*in+i)*px+p] = data[(p*in+i)*out+o]
				}
			}
		}
	default:
		copy(x.Data, data)
	}
	return x
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

var quick = sync.OnceValues(func() (*xla.Backend, error) { return xla.Open(context.Background(), Options(1)) })

var optimized = sync.OnceValues(func() (*xla.Backend, error) {
	return xla.Open(context.Background(), xla.Options{Log: os.Stderr})
})

// Options are the options of a backend of CPU devices for tests: quick to compile, and with the compiled programs that
// Main keeps.
func Options(devices int) xla.Options {
	return xla.Options{Devices: devices, Effort: xla.EffortQuick, Log: os.Stderr, Cache: programs}
}

// programs is the folder of compiled programs; "" for none.
var programs string

// Main runs a package's tests, from TestMain, so that each program is compiled once for all of them.
func Main(m *testing.M) {
	os.Exit(keepingPrograms(m))
}

func keepingPrograms(m *testing.M) int {
	dir, err := os.MkdirTemp("", "limner-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	return m.Run()
}

// Backend is one CPU device, shared by the tests of a package. It compiles in half of the time that limner itself
// takes.
func Backend(t testing.TB) *xla.Backend {
	t.Helper()
	return backend(t, quick)
}

// Optimized is Backend with programs compiled as limner does and not kept: for tests that run long or compare last
// digits.
func Optimized(t testing.TB) *xla.Backend {
	t.Helper()
	return backend(t, optimized)
}

func backend(t testing.TB, open func() (*xla.Backend, error)) *xla.Backend {
	t.Helper()
	b, err := open()
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

// Program is a compiled network: each run takes parameters and inputs.
type Program struct {
	t       testing.TB
	backend *xla.Backend
	program *program.Program
	tree    nn.Tree
}

// Compile compiles build for parameters of a tree and inputs of these shapes, all float32. Every node that build puts
// into the map it is given is an output.
func Compile(t testing.TB, b *xla.Backend, tree nn.Tree, inputs []Tensor,
	build func(p nn.Params, in []*Node, out map[string]*Node)) *Program {
	t.Helper()
	f := program.Function{Name: "parity", Inputs: program.Parameters(tree, dtypes.Float32)}
	for i, in := range inputs {
		f.Inputs = append(f.Inputs, xla.Value{Name: inputName(i), Shape: shapes.Make(dtypes.Float32, in.Shape...)})
	}
	f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		nodes := make([]*Node, len(inputs))
		for i := range nodes {
			nodes[i] = in.Get(inputName(i))
		}
		outputs = program.Nodes{}
		build(nn.Bind(tree, in.Of(tree)), nodes, outputs)
		return nil, outputs
	}
	compiled, err := program.Compile(context.Background(), b, f)
	if err != nil {
		t.Fatal(err)
	}
	return &Program{t: t, backend: b, program: compiled, tree: tree}
}

func inputName(i int) string { return fmt.Sprint("input", i) }

// Run runs the program and returns its outputs.
func (p *Program) Run(values nn.Values, inputs ...Tensor) Results {
	p.t.Helper()
	arrays := program.Arrays{}
	err := arrays.Load(p.backend, checkpoint.InMemory(values), p.tree, program.Parameters(p.tree, dtypes.Float32))
	for i, x := range inputs {
		var one error
		arrays[inputName(i)], one = xla.Put(p.backend, x.Data, xla.Replicated, x.Shape...)
		err = errors.Join(err, one)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	outputs, err := p.program.Run(nil, arrays)
	if err != nil {
		p.t.Fatal(err)
	}
	results := Results{}
	for name, a := range outputs {
		data, err := xla.Get[float32](a)
		if err != nil {
			p.t.Fatal(err)
		}
		results[name] = Tensor{data, a.Shape().Dimensions}
	}
	if err := errors.Join(arrays.Free(), outputs.Free()); err != nil {
		p.t.Fatal(err)
	}
	return results
}

// Run compiles build for the model and the inputs, as Compile, and runs it once.
func Run(t testing.TB, m Model, inputs []Tensor, build func(p nn.Params, in []*Node, out map[string]*Node)) Results {
	t.Helper()
	return Compile(t, Backend(t), m.Tree, inputs, build).Run(m.Values, inputs...)
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
		t.Errorf("%s: error %.2g, tolerance %.2g; worst at index %d: got %g, want %g",
			name, worst/largest, tolerance, at, got.Data[at], want.Data[at])
	}
}

// CheckNumber compares a number with the wanted one, within a tolerance relative to it.
func CheckNumber(t testing.TB, name string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
		t.Errorf("%s: got %.9g, want %.9g, tolerance %g relative", name, got, want, tolerance)
	}
}
