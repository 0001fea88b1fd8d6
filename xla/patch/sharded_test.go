package patch_test

import (
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/distributed"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
	"github.com/gomlx/gomlx/pkg/core/tensors"

	"limner/xla/patch"
)

// shardedUpdate compiles the update of state [16, 8] by rows x [16, 8] over 4 devices.
func shardedUpdate(t testing.TB, b *patch.Backend, mesh *distributed.DeviceMesh, name string,
	state, out *distributed.ShardingSpec) *Graph {
	t.Helper()
	rows, err := distributed.BuildSpec(mesh).S("data").R().Done()
	check(t, err)
	g := NewGraph(b, name)
	if err := g.SetAutoSharding(mesh); err != nil {
		t.Fatal(err)
	}
	w := ShardedParameter(g, "w", shapes.Make(dtypes.Float32, 8, 8), state)
	x := ShardedParameter(g, "x", shapes.Make(dtypes.Float32, 16, 8), rows)
	grad := MatMul(Transpose(x, 0, 1), x) // Sums over the data axis.
	w2 := Sub(w, MulScalar(grad, 0.5))
	loss := ReduceAllSum(Square(MatMul(x, w2)))
	g.CompileWithSharding([]*Node{loss, w2},
		[]*distributed.ShardingSpec{distributed.NewReplicatedShardingSpec(mesh), out})
	return g
}

func TestAliasSharded(t *testing.T) {
	b := testBackend(t, 4)
	mesh, err := distributed.NewDeviceMesh([]int{4}, []string{"data"})
	check(t, err)
	sharded, err := distributed.BuildSpec(mesh).S("data").R().Done()
	check(t, err)
	replicated, err := distributed.BuildSpec(mesh).R().R().Done()
	check(t, err)
	flat := make([]float32, 16*8)
	for i := range flat {
		flat[i] = float32(i%5) - 2
	}
	for _, c := range []struct {
		name string
		spec *distributed.ShardingSpec
		want int64
	}{{"replicated", replicated, 8 * 8 * 4}, {"sharded", sharded, 8 * 8}} {
		t.Run(c.name, func(t *testing.T) {
			b.SetAliases(t.Name(), map[int]int{0: 1})
			g := shardedUpdate(t, b, mesh, t.Name(), c.spec, c.spec)
			defer g.Finalize()
			s, err := b.Memory(t.Name())
			check(t, err)
			if s.Aliases != c.want {
				t.Errorf("alias bytes a device: got %d, want %d (%+v)", s.Aliases, c.want, s)
			}
			plain := shardedUpdate(t, b, mesh, t.Name()+"/plain", c.spec, c.spec)
			defer plain.Finalize()

			rows, err := distributed.ShardTensor(sharded, tensors.FromFlatDataAndDimensions(flat, 16, 8))
			check(t, err)
			shards := func() []*tensors.Tensor {
				w, err := distributed.ShardTensor(c.spec, tensors.FromFlatDataAndDimensions(flat[:64], 8, 8))
				check(t, err)
				return w.Shards()
			}
			w, w2 := shards(), shards()
			for step := range 3 {
				var in, in2 []any
				for d := range 4 {
					in = append(in, donate(t, b, w[d], d), rows.Shards()[d])
					in2 = append(in2, w2[d], rows.Shards()[d])
				}
				out, want := g.Run(in...), plain.Run(in2...)
				for i := range out {
					if !out[i].Equal(want[i]) {
						t.Fatalf("step %d output %d: got %v, want %v", step, i, out[i].Value(), want[i].Value())
					}
				}
				for d := range 4 {
					w[d], w2[d] = out[2*d+1], want[2*d+1]
				}
			}
		})
	}
	t.Run("unequal", func(t *testing.T) {
		b.SetAliases(t.Name(), map[int]int{0: 1})
		err := try(func() { shardedUpdate(t, b, mesh, t.Name(), sharded, replicated) })
		if err == nil || !strings.Contains(err.Error(), "shardings must agree") {
			t.Errorf("got error %v, want that the shardings must agree", err)
		}
	})
	t.Run("no spec", func(t *testing.T) {
		b.SetAliases(t.Name(), map[int]int{0: 1})
		err := try(func() { shardedUpdate(t, b, mesh, t.Name(), nil, replicated) })
		if err == nil || !strings.Contains(err.Error(), "need a sharding spec") {
			t.Errorf("got error %v, want that a sharding spec is needed", err)
		}
	})
}
