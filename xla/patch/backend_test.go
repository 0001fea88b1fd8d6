package patch_test

import (
	"strings"
	"sync"
	"testing"

	goxla "github.com/gomlx/go-xla/pkg/pjrt"
	"github.com/gomlx/gomlx/backends/xla"
	"github.com/gomlx/gomlx/pkg/core/distributed"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla/patch"
)

var (
	backendsMu sync.Mutex
	byDevices  = map[int]*xla.Backend{}
)

// testBackend returns XLA:CPU with that many devices as GoMLX has it, one for all tests.
func testBackend(t testing.TB, devices int) *xla.Backend {
	t.Helper()
	backendsMu.Lock()
	defer backendsMu.Unlock()
	if b, ok := byDevices[devices]; ok {
		return b
	}
	b, err := xla.NewWithOptions(pluginPath(t), goxla.NamedValuesMap{"cpu_device_count": int64(devices)})
	check(t, err)
	byDevices[devices] = b
	return b
}

// check ends the test if err is one.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A program for devices that are not here says which parameters are written over and how all lies on the devices.
func TestProgram(t *testing.T) {
	mesh, err := distributed.NewDeviceMesh([]int{64}, []string{"data"})
	check(t, err)
	rows, err := distributed.BuildSpec(mesh).S("data").R().Done()
	check(t, err)
	whole, err := distributed.BuildSpec(mesh).R().R().Done()
	check(t, err)
	for _, c := range []struct {
		states int
		want   []string
	}{
		{0, []string{`@main(%w: tensor<8x8xf32> { sdy.sharding = #sdy.sharding<@mesh, [{}, {}]> }`}},
		{1, []string{
			"module @update attributes {stablehlo.num_replicas = 1,  stablehlo.num_partitions = 64} {\n",
			`%w: tensor<8x8xf32> {
    sdy.sharding = #sdy.sharding<@mesh, [{}, {}]>,
    tf.aliasing_output = 0 : i32
  }`,
			`%x: tensor<64x8xf32> { sdy.sharding = #sdy.sharding<@mesh, [{"data"}, {}]> }`,
		}},
	} {
		b, err := patch.NewBackend(64)
		check(t, err)
		g := NewGraph(b, "update")
		check(t, g.SetAutoSharding(mesh))
		w := ShardedParameter(g, "w", shapes.Make(dtypes.Float32, 8, 8), whole)
		x := ShardedParameter(g, "x", shapes.Make(dtypes.Float32, 64, 8), rows)
		y := MatMul(x, w)
		specs := []*distributed.ShardingSpec{whole, rows, whole}
		text, err := patch.Program(g, []*Node{AddScalar(w, 1), y, y}, specs, c.states)
		check(t, err)
		for _, want := range append(c.want, `stablehlo.dot_general`) {
			if !strings.Contains(string(text), want) {
				t.Errorf("%d states: no %s in\n%s", c.states, want, text)
			}
		}
		if got := strings.Count(string(text), "tf.aliasing_output"); got != c.states {
			t.Errorf("%d states: %d parameters are written over", c.states, got)
		}
	}
}
