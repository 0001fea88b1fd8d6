package patch_test

import (
	"strings"
	"testing"

	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/pkg/core/distributed"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// TestSpread runs a program as a process does that has two of its four devices. The CPU plugin's one process has all
// four, and says that it wants the buffers of them: so the call got through to it with those of two, which GoMLX and
// go-xla refuse as shipped.
func TestSpread(t *testing.T) {
	b := testBackend(t, 4)
	mesh, err := distributed.NewDeviceMesh([]int{4}, []string{"data"})
	check(t, err)
	whole, err := distributed.BuildSpec(mesh).R().R().Done()
	check(t, err)
	run := func(name string) error {
		g := shardedUpdate(t, b, mesh, name, whole, whole)
		defer g.Finalize()
		var buffers []backends.Buffer
		for device := range backends.DeviceNum(2) {
			for _, rows := range []int{8, 4} {
				buffer, err := b.BufferFromFlatData(device, make([]float32, rows*8),
					shapes.Make(dtypes.Float32, rows, 8))
				check(t, err)
				buffers = append(buffers, buffer)
			}
		}
		_, err := b.Execute(name, buffers, make([]bool, len(buffers)))
		return err
	}
	if err := run("shipped"); err == nil || !strings.Contains(err.Error(), "wrong number of parameters") {
		t.Errorf("as shipped: got %v, want that the buffers of four devices are asked for: is the repair still needed?",
			err)
	}
	check(t, b.Spread(4, 2))
	defer func() { check(t, b.Spread(4, 0)) }() // other tests share the backend
	if err := run("spread"); err == nil || !strings.Contains(err.Error(), "2 argument lists") {
		t.Errorf("got %v, want the plugin's own error of 2 argument lists", err)
	}
}
