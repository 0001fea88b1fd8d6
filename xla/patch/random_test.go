package patch_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/distributed"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
	"github.com/gomlx/gomlx/pkg/core/tensors"

	"limner/xla/patch"
)

// draw runs f on XLA:CPU with the key of (seed, step, purpose).
func draw[T dtypes.Supported](t testing.TB, seed uint64, step int64, purpose uint32, f func(key *Node) *Node) []T {
	t.Helper()
	g := NewGraph(testBackend(t, 1), "")
	s := Parameter(g, "seed", shapes.Make(dtypes.Uint64))
	n := Parameter(g, "step", shapes.Make(dtypes.Int64))
	g.Compile(f(patch.Key(s, n, purpose)))
	defer g.Finalize()
	return tensors.MustCopyFlatData[T](g.Run(seed, step)[0])
}

// The known answers of Random123 (kat_vectors, threefry2x32, 20 rounds).
func TestThreefryKnownAnswers(t *testing.T) {
	g := NewGraph(testBackend(t, 1), t.Name())
	var in [4]*Node
	for i := range in {
		in[i] = Parameter(g, fmt.Sprintf("word%d", i), shapes.Make(dtypes.Uint32))
	}
	x0, x1 := patch.Threefry(in[0], in[1], in[2], in[3])
	g.Compile(x0, x1)
	defer g.Finalize()
	for _, c := range []struct{ key, counter, want [2]uint32 }{
		{[2]uint32{0, 0}, [2]uint32{0, 0}, [2]uint32{0x6b200159, 0x99ba4efe}},
		{[2]uint32{0xffffffff, 0xffffffff}, [2]uint32{0xffffffff, 0xffffffff}, [2]uint32{0x1cb996fc, 0xbb002be7}},
		{[2]uint32{0x13198a2e, 0x03707344}, [2]uint32{0x243f6a88, 0x85a308d3}, [2]uint32{0xc4923a9c, 0x483df7a0}},
	} {
		out := g.Run(c.key[0], c.key[1], c.counter[0], c.counter[1])
		got := [2]uint32{tensors.ToScalar[uint32](out[0]), tensors.ToScalar[uint32](out[1])}
		if got != c.want {
			t.Errorf("key %#x counter %#x: got %#x, want %#x", c.key, c.counter, got, c.want)
		}
	}
}

// No bits give a number out of range, NaN or infinite.
func TestExtremeBits(t *testing.T) {
	extremes := []uint32{0, 1, 1<<9 - 1, 1 << 9, 1 << 30, 1<<31 - 1, 1 << 31, math.MaxUint32 - 1<<9, math.MaxUint32}
	var first, second []uint32
	for _, a := range extremes {
		for _, b := range extremes {
			first, second = append(first, a), append(second, b)
		}
	}
	g := NewGraph(testBackend(t, 1), t.Name())
	shape := shapes.Make(dtypes.Uint32, len(first))
	a, b := Parameter(g, "a", shape), Parameter(g, "b", shape)
	g.Compile(patch.UniformFromBits(a), patch.NormalFromBits(a, b))
	defer g.Finalize()
	out := g.Run(first, second)
	for i, u := range tensors.MustCopyFlatData[float32](out[0]) {
		want := (float64(first[i]>>9) + 0.5) / (1 << 23)
		if float64(u) != want || u <= 0 || u >= 1 {
			t.Errorf("uniform of %#x: got %v, want %v in (0, 1)", first[i], u, want)
		}
	}
	for i, z := range tensors.MustCopyFlatData[float32](out[1]) {
		u1, u2 := (float64(first[i]>>9)+0.5)/(1<<23), (float64(second[i]>>9)+0.5)/(1<<23)
		want := math.Sqrt(-2*math.Log(u1)) * math.Cos(2*math.Pi*u2)
		if !(math.Abs(float64(z)-want) < 1e-5) || math.Abs(float64(z)) > 5.78 {
			t.Errorf("normal of %#x, %#x: got %v, want %v", first[i], second[i], z, want)
		}
	}
}

// GoMLX's RandomNormal takes the logarithm of a number that XLA flushes to zero.
func TestShippedNormalOfZero(t *testing.T) {
	g := NewGraph(testBackend(t, 1), t.Name())
	u1 := Parameter(g, "u1", shapes.Make(dtypes.Float32))
	u1 = Max(u1, Const(g, dtypes.Float32.SmallestNonZeroValueForDType()))
	g.Compile(Sqrt(MulScalar(Log(u1), -2)))
	defer g.Finalize()
	if r := float64(tensors.ToScalar[float32](g.Run(float32(0))[0])); !math.IsInf(r, 0) && !math.IsNaN(r) {
		t.Errorf("the radius of GoMLX's normal at 0 is now %v: the repair may be needless", r)
	}
}

func TestNormalMoments(t *testing.T) {
	const n = 10_000_000
	z := draw[float32](t, 1, 2, 3, func(key *Node) *Node {
		return patch.RandomNormal(key, shapes.Make(dtypes.Float32, n/100, 100))
	})
	var sum, sum2, sum3, sum4, next, beyond float64
	for i, v := range z {
		x := float64(v)
		if math.IsNaN(x) || math.IsInf(x, 0) {
			t.Fatalf("number %d is %v", i, x)
		}
		sum, sum2, sum3, sum4 = sum+x, sum2+x*x, sum3+x*x*x, sum4+x*x*x*x
		next += x * float64(z[(i+1)%n])
		if math.Abs(x) > 3 {
			beyond++
		}
	}
	for _, c := range []struct {
		name              string
		got, want, stddev float64 // of the estimate
	}{
		{"mean", sum / n, 0, 1 / math.Sqrt(n)},
		{"variance", sum2 / n, 1, math.Sqrt(2.0 / n)},
		{"third moment", sum3 / n, 0, math.Sqrt(15.0 / n)},
		{"fourth moment", sum4 / n, 3, math.Sqrt(96.0 / n)},
		{"correlation with the next", next / n, 0, 1 / math.Sqrt(n)},
		{"share beyond 3", beyond / n, 0.0026997961, math.Sqrt(0.0027 / n)},
	} {
		if math.Abs(c.got-c.want) > 4.5*c.stddev {
			t.Errorf("%s: got %.6f, want %.6f ± %.6f", c.name, c.got, c.want, c.stddev)
		}
	}
}

func TestUniformAndInt(t *testing.T) {
	const n, limit = 1_000_000, 10
	var sum float64
	for _, u := range draw[float32](t, 7, 0, 0, func(key *Node) *Node {
		return patch.RandomUniform(key, shapes.Make(dtypes.Float32, n))
	}) {
		if u <= 0 || u >= 1 {
			t.Fatalf("uniform number %v", u)
		}
		sum += float64(u)
	}
	if mean := sum / n; math.Abs(mean-0.5) > 4.5*math.Sqrt(1.0/12/n) {
		t.Errorf("mean of the uniform numbers: got %v", mean)
	}
	static := draw[int32](t, 7, 0, 1, func(key *Node) *Node { return patch.RandomInt(key, limit, n) })
	var counts [limit]float64
	for _, v := range static {
		if v < 0 || v >= limit {
			t.Fatalf("integer %d, want [0, %d)", v, limit)
		}
		counts[v]++
	}
	var chi2 float64
	for _, c := range counts {
		chi2 += (c - n/limit) * (c - n/limit) / (n / limit)
	}
	if chi2 > 33.7 { // 9 degrees of freedom, 1 in 10,000
		t.Errorf("integers are uneven: χ² %.1f, counts %v", chi2, counts)
	}
	dynamic := draw[int32](t, 7, 0, 1, func(key *Node) *Node {
		return patch.RandomInt(key, Const(key.Graph(), int32(limit)), n)
	})
	if !slices.Equal(static, dynamic) {
		t.Error("a limit given as a node draws other integers")
	}
	if err := try(func() {
		draw[int32](t, 7, 0, 1, func(key *Node) *Node { return patch.RandomInt(key, 0, n) })
	}); err == nil {
		t.Error("limit 0 is accepted")
	}
}

// A number depends on seed, step, purpose and index, and on nothing else.
func TestKeys(t *testing.T) {
	const n = 1000
	bits := func(seed uint64, step int64, purpose uint32, n int) []uint32 {
		return draw[uint32](t, seed, step, purpose, func(key *Node) *Node { return patch.RandomBits(key, n) })
	}
	want := bits(1, 2, 3, n)
	if !slices.Equal(bits(1, 2, 3, n), want) {
		t.Error("the same key draws other numbers in a second run")
	}
	if !slices.Equal(bits(1, 2, 3, 2*n)[:n], want) {
		t.Error("drawing more numbers changes the first ones")
	}
	square := draw[uint32](t, 1, 2, 3, func(key *Node) *Node { return patch.RandomBits(key, 10, 4, 25) })
	if !slices.Equal(square, want) {
		t.Error("the shape changes the numbers")
	}
	seen := map[uint32]string{}
	for _, k := range []struct {
		name    string
		seed    uint64
		step    int64
		purpose uint32
	}{
		{"first", 1, 2, 3}, {"seed", 2, 2, 3}, {"high seed", 1 | 1<<32, 2, 3}, {"step", 1, 3, 3},
		{"high step", 1, 2 | 1<<32, 3}, {"purpose", 1, 2, 4}, {"swapped", 2, 1, 3},
		{"all swapped", 3, 2, 1}, {"zero", 0, 0, 0},
	} {
		// Eight thousand of 2^32 numbers share 8 on average, with any of 9 keys; a key taken twice shares 1,000.
		shared := 0
		for _, b := range bits(k.seed, k.step, k.purpose, n) {
			if other, ok := seen[b]; ok && other != k.name {
				shared++
			}
			seen[b] = k.name
		}
		if shared > 3 {
			t.Errorf("%s shares %d of %d numbers with another key", k.name, shared, n)
		}
	}
	pair := func() []uint32 {
		g := NewGraph(testBackend(t, 1), "")
		seed := Parameter(g, "seed", shapes.Make(dtypes.Uint32, 2))
		step := Parameter(g, "step", shapes.Make(dtypes.Int32))
		g.Compile(patch.RandomBits(patch.Key(seed, step, 3), n))
		defer g.Finalize()
		return tensors.MustCopyFlatData[uint32](g.Run([]uint32{1, 0}, int32(2))[0])
	}()
	if !slices.Equal(pair, want) {
		t.Error("a seed of two words and a step of 32 bits draw other numbers")
	}
}

// Four devices draw what one draws, replicated or each its shard.
func TestRandomSharded(t *testing.T) {
	shape := shapes.Make(dtypes.Float32, 8, 6, 5)
	one := func(key *Node) *Node { return patch.RandomNormal(key, shape) }
	want := draw[float32](t, 5, 6, 7, one)
	wantInts := draw[int32](t, 5, 6, 7, func(key *Node) *Node { return patch.RandomInt(key, 1000, 8) })

	b := testBackend(t, 4)
	mesh, err := distributed.NewDeviceMesh([]int{4}, []string{"data"})
	check(t, err)
	scalar := distributed.NewReplicatedShardingSpec(mesh)
	rows, err := distributed.BuildSpec(mesh).S("data").R().R().Done()
	check(t, err)
	row, err := distributed.BuildSpec(mesh).S("data").Done()
	check(t, err)
	g := NewGraph(b, t.Name())
	check(t, g.SetAutoSharding(mesh))
	seed := ShardedParameter(g, "seed", shapes.Make(dtypes.Uint64), scalar)
	step := ShardedParameter(g, "step", shapes.Make(dtypes.Int64), scalar)
	key := patch.Key(seed, step, 7)
	g.CompileWithSharding([]*Node{one(key), one(key), patch.RandomInt(key, 1000, 8)},
		[]*distributed.ShardingSpec{rows, scalar, row})
	defer g.Finalize()
	var in []any
	for range 4 {
		in = append(in, uint64(5), int64(6))
	}
	out := g.Run(in...)
	var sharded []float32
	var ints []int32
	for d := range 4 {
		sharded = append(sharded, tensors.MustCopyFlatData[float32](out[3*d])...)
		ints = append(ints, tensors.MustCopyFlatData[int32](out[3*d+2])...)
		if got := tensors.MustCopyFlatData[float32](out[3*d+1]); !slices.Equal(got, want) {
			t.Errorf("device %d, replicated: other numbers than on one device", d)
		}
	}
	if !slices.Equal(sharded, want) {
		t.Error("sharded: other numbers than on one device")
	}
	if !slices.Equal(ints, wantInts) {
		t.Errorf("sharded integers: got %v, want %v", ints, wantInts)
	}
}

func BenchmarkRandomNormal(b *testing.B) {
	g := NewGraph(testBackend(b, 1), b.Name())
	seed := Parameter(g, "seed", shapes.Make(dtypes.Uint64))
	step := Parameter(g, "step", shapes.Make(dtypes.Int64))
	g.Compile(ReduceAllSum(patch.RandomNormal(patch.Key(seed, step, 0), shapes.Make(dtypes.Float32, 1<<20))))
	defer g.Finalize()
	b.SetBytes(4 << 20)
	for i := range b.N {
		g.Run(uint64(1), int64(i))
	}
}

// The rows of a larger array have the same numbers when they are drawn by themselves.
func TestRows(t *testing.T) {
	const rows, width, first = 5, 3, 2
	shape := shapes.Make(dtypes.Float32, rows, width)
	whole := draw[float32](t, 1, 2, 3, func(key *Node) *Node { return patch.RandomNormal(key, shape) })
	part := draw[float32](t, 1, 2, 3, func(key *Node) *Node {
		return patch.RandomNormal(patch.Rows(key, Const(key.Graph(), uint32(first))),
			shapes.Make(dtypes.Float32, rows-first, width))
	})
	if !slices.Equal(part, whole[first*width:]) {
		t.Errorf("got %v, want the end of %v", part, whole)
	}
}
