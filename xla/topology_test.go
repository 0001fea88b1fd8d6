package xla_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla"
)

// openPlan opens a backend that compiles for a TPU that is not there.
func openPlan(t *testing.T, name string) *xla.Backend {
	t.Helper()
	topology, err := xla.FindTopology(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := xla.OpenPlan(t.Context(), topology, xla.Options{Effort: xla.EffortQuick})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// square multiplies a matrix whose rows are divided over the devices by itself, in place.
func square(n int) xla.Function {
	return xla.Function{
		Name: "square", State: []xla.Value{{Name: "x", Shape: shapes.Make(dtypes.Float32, n, n), Sharding: xla.Batch}},
		Build: func(_ *Graph, state, _ []*Node) (next, outputs []*Node) {
			return []*Node{DotGeneral(state[0], []int{1}, nil, state[0], []int{0}, nil)}, nil
		},
	}
}

func TestPlan(t *testing.T) {
	b := openPlan(t, "v4-8")
	if b.Devices() != 4 {
		t.Fatalf("got %d devices, want 4", b.Devices())
	}
	p, err := b.Compile(t.Context(), square(1024))
	if err != nil {
		t.Fatal(err)
	}
	if m := p.Memory(); m.Arguments != 1<<20 || m.Aliases != 1<<20 || m.Temporaries < 4<<20 {
		t.Errorf("got %+v, want a quarter of 4 MB as argument, in place, and the gathered whole as temporary", m)
	}
	if _, err := p.Run(nil); err == nil || err.Error() != "run square: it is only planned for TPU v4" {
		t.Errorf("running it: got %v", err)
	}
	if _, err := xla.Put(b, []float32{1}, xla.Replicated, 1); err == nil ||
		!strings.Contains(err.Error(), "only planned for") {
		t.Errorf("an array: got %v", err)
	}
	cost, err := p.Planned().Cost()
	if err != nil {
		t.Fatal(err)
	}
	if want := 2.0 * 256 * 1024 * 1024; cost["flops"] < want || cost["flops"] > 1.1*want {
		t.Errorf("got %g operations a chip, want %g", cost["flops"], want)
	}
	traffic, err := p.Traffic()
	if err != nil {
		t.Fatal(err)
	}
	if traffic.Bytes < 6<<20 { // the whole and a part are read, a part is written
		t.Errorf("got %g bytes of traffic, want at least %d", traffic.Bytes, 6<<20)
	}
	if want := map[string]float64{"all-gather": 4 << 20}; !maps.Equal(traffic.Collectives, want) {
		t.Errorf("got %v, want %v", traffic.Collectives, want)
	}
	if serialized, err := p.Planned().Serialize(); err != nil || len(serialized) == 0 {
		t.Errorf("got %d serialized bytes, %v", len(serialized), err)
	}
}

// TestPlanSums sums over the rows that are divided over the devices, whole and then divided.
func TestPlanSums(t *testing.T) {
	b := openPlan(t, "v4-8")
	for kind, sharding := range map[string]xla.Sharding{"all-reduce": xla.Replicated, "reduce-scatter": xla.Batch} {
		p, err := b.Compile(t.Context(), xla.Function{
			Name: "sums", Inputs: []xla.Value{
				{Name: "x", Shape: shapes.Make(dtypes.Float32, 1024, 1024), Sharding: xla.Batch},
			},
			Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
				return nil, []*Node{DotGeneral(in[0], []int{0}, nil, in[0], []int{0}, nil)}
			},
			Outputs: []xla.Sharding{sharding},
		})
		if err != nil {
			t.Fatal(err)
		}
		traffic, err := p.Traffic()
		if want := map[string]float64{kind: 4 << 20}; err != nil || !maps.Equal(traffic.Collectives, want) {
			t.Errorf("got %v, %v, want %v", traffic.Collectives, err, want)
		}
	}
}

func TestPlanOutOfMemory(t *testing.T) {
	_, err := openPlan(t, "v4-8").Compile(t.Context(), square(1<<17)) // 64 GB, gathered on each chip
	if err == nil || !strings.Contains(err.Error(), "exceeds available HBM") ||
		!strings.Contains(err.Error(), "\nlarge: 17.18 GB 131072x131072xf32") {
		t.Errorf("got %v, want that it does not fit, and what is large", err)
	}
}

func TestTopologies(t *testing.T) {
	all := xla.Topologies()
	if !slices.ContainsFunc(all, func(o xla.Topology) bool {
		return o.Name == "v4-512" && o.Chips() == 256 && o.Hosts() == 64
	}) {
		t.Error("no v4-512 of 256 chips and 64 hosts")
	}
	for _, o := range all {
		b, err := xla.OpenPlan(t.Context(), o, xla.Options{Effort: xla.EffortQuick})
		if err != nil {
			t.Errorf("%s: %v", o.Name, err)
			continue
		}
		b.Close()
	}
	if _, err := xla.FindTopology("v4-7"); err == nil || !strings.Contains(err.Error(), "v4-8|16") {
		t.Errorf("got %v, want the known ones", err)
	}
}
