package patch_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	goxla "github.com/gomlx/go-xla/pkg/pjrt"
	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/xla"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
	"github.com/gomlx/gomlx/pkg/core/tensors"

	"limner/xla/patch"
)

var (
	backendsMu sync.Mutex
	byDevices  = map[int]*patch.Backend{}
)

// testBackend returns XLA:CPU with that many devices, one for all tests.
func testBackend(t testing.TB, devices int) *patch.Backend {
	t.Helper()
	backendsMu.Lock()
	defer backendsMu.Unlock()
	if b, ok := byDevices[devices]; ok {
		return b
	}
	inner, err := xla.NewWithOptions(pluginPath(t), goxla.NamedValuesMap{"cpu_device_count": int64(devices)})
	check(t, err)
	byDevices[devices] = patch.Wrap(inner)
	return byDevices[devices]
}

// try turns the panics of graph building and running into an error.
func try(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	f()
	return nil
}

// check ends the test if err is one.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func donate(t testing.TB, b *patch.Backend, x *tensors.Tensor, device int) any {
	t.Helper()
	d, err := DonateTensorBuffer(x, b, backends.DeviceNum(device))
	check(t, err)
	return d
}

// update compiles state, moment, x → (loss, state', moment'), aliased or not.
func update(b *patch.Backend, name string, aliased bool) *Graph {
	if aliased {
		b.SetAliases(name, map[int]int{0: 1, 2: 2})
	}
	g := NewGraph(b, name)
	state := Parameter(g, "state", shapes.Make(dtypes.Float32, 16, 8))
	x := Parameter(g, "x", shapes.Make(dtypes.Float32, 8))
	moment := Parameter(g, "moment", shapes.Make(dtypes.Float32, 16, 8))
	moment2 := Add(MulScalar(moment, 0.5), InsertAxes(x, 0))
	state2 := Sub(state, moment2)
	g.Compile(ReduceAllSum(Square(state2)), state2, moment2)
	return g
}

func TestAliasBytes(t *testing.T) {
	const stateBytes = 2 * 16 * 8 * 4
	for _, c := range []struct {
		name    string
		aliased bool
		want    int64
	}{{"aliased", true, stateBytes}, {"plain", false, 0}} {
		t.Run(c.name, func(t *testing.T) {
			b := testBackend(t, 1)
			g := update(b, t.Name(), c.aliased)
			defer g.Finalize()
			s, err := b.Memory(t.Name())
			check(t, err)
			if s.Aliases != c.want {
				t.Errorf("alias bytes: got %d, want %d (%+v)", s.Aliases, c.want, s)
			}
			if want := int64(stateBytes + 8*4); s.Arguments != want {
				t.Errorf("argument bytes: got %d, want %d", s.Arguments, want)
			}
			if s.Outputs < stateBytes+4 {
				t.Errorf("output bytes: got %d, want at least %d", s.Outputs, stateBytes+4)
			}
			if s.Peak < s.Arguments || s.Total() < s.Arguments {
				t.Errorf("peak %d and total %d are below the arguments: %+v", s.Peak, s.Total(), s)
			}
			text, err := b.StableHLO(t.Name())
			check(t, err)
			if got := strings.Count(text, "tf.aliasing_output"); (got == 2) != c.aliased {
				t.Errorf("aliased parameters in the text: got %d", got)
			}
			b.Forget(t.Name())
			if _, err := b.Memory(t.Name()); err == nil {
				t.Error("a forgotten program still has statistics")
			}
		})
	}
}

// The announcement is used up by one compilation.
func TestAliasesHoldOnce(t *testing.T) {
	b := testBackend(t, 1)
	update(b, t.Name(), true).Finalize()
	update(b, t.Name(), false).Finalize()
	s, err := b.Memory(t.Name())
	check(t, err)
	if s.Aliases != 0 {
		t.Errorf("second compilation: alias bytes %d, want 0", s.Aliases)
	}
}

func TestAliasedValues(t *testing.T) {
	b := testBackend(t, 1)
	g := update(b, t.Name(), true)
	defer g.Finalize()
	plain := update(b, t.Name()+"/plain", false)
	defer plain.Finalize()
	start := func(v float32) *tensors.Tensor {
		flat := make([]float32, 16*8)
		for i := range flat {
			flat[i] = v + float32(i%7)
		}
		return tensors.FromFlatDataAndDimensions(flat, 16, 8)
	}
	x := tensors.FromValue([]float32{1, 2, 3, 4, 5, 6, 7, 8})
	state, moment := start(1), start(2)
	state2, moment2 := start(1), start(2)
	kept := start(1)
	for step := range 4 {
		out := g.Run(donate(t, b, state, 0), x, donate(t, b, moment, 0))
		want := plain.Run(state2, x, moment2)
		for i, name := range []string{"loss", "state", "moment"} {
			if !out[i].Equal(want[i]) {
				t.Fatalf("step %d: %s: got %v, want %v", step, name, out[i].Value(), want[i].Value())
			}
		}
		state, moment, state2, moment2 = out[1], out[2], want[1], want[2]
	}
	// What is not donated is not overwritten.
	g.Run(kept, x, start(2))
	if !kept.Equal(start(1)) {
		t.Error("a parameter that was not donated was overwritten")
	}
}

func TestAliasErrors(t *testing.T) {
	b := testBackend(t, 1)
	for _, c := range []struct {
		name    string
		aliases map[int]int
		want    string
	}{
		{"shape", map[int]int{0: 0}, `parameter "state" of shape`},
		{"no parameter", map[int]int{3: 1}, "there are 3 parameters"},
		{"no output", map[int]int{0: 3}, "there are 3 outputs"},
		{"negative", map[int]int{-1: 1}, "there are 3 parameters"},
		{"twice", map[int]int{0: 1, 2: 1}, "both aliased to output 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.SetAliases(t.Name(), c.aliases)
			err := try(func() { update(b, t.Name(), false) })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

// rss returns a figure of /proc/self/status in bytes.
func rss(t testing.TB, key string) int64 {
	t.Helper()
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), key+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			check(t, err)
			return kb << 10
		}
	}
	t.Skipf("/proc/self/status has no %s", key)
	return 0
}

// peakGrowth returns by how much 20 updates of a 256 MB state raise the peak of the resident memory.
func peakGrowth(t *testing.T, aliased bool) int64 {
	const elements = 64 << 20
	b := testBackend(t, 1)
	shape := shapes.Make(dtypes.Float32, elements)
	first := NewGraph(b, t.Name()+"/first")
	first.Compile(Ones(first, shape))
	defer first.Finalize()
	name := fmt.Sprintf("%s/%v", t.Name(), aliased)
	if aliased {
		b.SetAliases(name, map[int]int{0: 0})
	}
	g := NewGraph(b, name)
	g.Compile(AddScalar(Parameter(g, "state", shape), 1))
	defer g.Finalize()

	state := first.Run()[0]
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200); err != nil {
		t.Skip(err)
	}
	before := rss(t, "VmRSS")
	for range 20 {
		state = g.Run(donate(t, b, state, 0))[0]
	}
	growth := rss(t, "VmHWM") - before
	got := tensors.MustCopyFlatData[float32](state)
	for _, i := range []int{0, 1, elements / 2, elements - 1} {
		if got[i] != 21 {
			t.Errorf("state[%d] after 20 updates: got %v, want 21", i, got[i])
		}
	}
	state.FinalizeAll()
	return growth
}

func TestUpdateInPlace(t *testing.T) {
	const state = 256 << 20
	aliased, plain := peakGrowth(t, true), peakGrowth(t, false)
	t.Logf("peak above the state: aliased %d MB, plain %d MB", aliased>>20, plain>>20)
	if aliased > state/8 {
		t.Errorf("aliased: the peak grew by %d MB, want none", aliased>>20)
	}
	if plain < state*3/4 {
		t.Errorf("plain: the peak grew by %d MB, want a second copy: is the repair still needed?", plain>>20)
	}
}
