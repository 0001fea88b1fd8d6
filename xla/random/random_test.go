package random_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla"
	"limner/xla/random"
)

var (
	backendsMu sync.Mutex
	byDevices  = map[int]*xla.Backend{}
)

// backend is XLA:CPU with so many devices, opened once.
func backend(t testing.TB, devices int) *xla.Backend {
	t.Helper()
	backendsMu.Lock()
	defer backendsMu.Unlock()
	if byDevices[devices] == nil {
		b, err := xla.Open(t.Context(), xla.Options{Devices: devices})
		check(t, err)
		byDevices[devices] = b
	}
	return byDevices[devices]
}

// check ends the test if err is one.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compile compiles a function of inputs of these shapes, whose outputs lie on the devices as outputs says.
func compile(t testing.TB, devices int, outputs []xla.Sharding, f func(in []*Node) []*Node, in ...shapes.Shape) (
	*xla.Program, error) {
	t.Helper()
	var inputs []xla.Value
	for i, shape := range in {
		inputs = append(inputs, xla.Value{Name: fmt.Sprintf("input%d", i), Shape: shape})
	}
	return backend(t, devices).Compile(t.Context(), xla.Function{
		Name: "random", Inputs: inputs, Outputs: outputs,
		Build: func(_ *Graph, _, in []*Node) (_, outputs []*Node) { return nil, f(in) },
	})
}

// put copies values to the devices: those of a scalar where no dimensions are given.
func put[T dtypes.Supported](t testing.TB, devices int, values []T, dims ...int) *xla.Array {
	t.Helper()
	a, err := xla.Put(backend(t, devices), values, xla.Replicated, dims...)
	check(t, err)
	return a
}

// outputs runs a program.
func outputs(t testing.TB, p *xla.Program, in ...*xla.Array) []*xla.Array {
	t.Helper()
	out, err := p.Run(nil, in...)
	check(t, err)
	return out
}

// get copies an array to the host.
func get[T dtypes.Supported](t testing.TB, a *xla.Array) []T {
	t.Helper()
	values, err := xla.Get[T](a)
	check(t, err)
	return values
}

// scalars are the shapes of a seed and a step.
var scalars = []shapes.Shape{shapes.Make(dtypes.Uint64), shapes.Make(dtypes.Int64)}

// draw runs f on one device with the key of (seed, step, purpose).
func draw[T dtypes.Supported](t testing.TB, seed uint64, step int64, purpose uint32, f func(key *Node) *Node) []T {
	t.Helper()
	program, err := compile(t, 1, nil, func(in []*Node) []*Node {
		return []*Node{f(random.Key(in[0], in[1], purpose))}
	}, scalars...)
	check(t, err)
	return get[T](t, outputs(t, program, put(t, 1, []uint64{seed}), put(t, 1, []int64{step}))[0])
}

// The known answers of Random123 (kat_vectors, threefry2x32, 20 rounds).
func TestThreefryKnownAnswers(t *testing.T) {
	word := shapes.Make(dtypes.Uint32)
	program, err := compile(t, 1, nil, func(in []*Node) []*Node {
		x0, x1 := random.Threefry(in[0], in[1], in[2], in[3])
		return []*Node{x0, x1}
	}, word, word, word, word)
	check(t, err)
	for _, c := range []struct{ key, counter, want [2]uint32 }{
		{[2]uint32{0, 0}, [2]uint32{0, 0}, [2]uint32{0x6b200159, 0x99ba4efe}},
		{[2]uint32{0xffffffff, 0xffffffff}, [2]uint32{0xffffffff, 0xffffffff}, [2]uint32{0x1cb996fc, 0xbb002be7}},
		{[2]uint32{0x13198a2e, 0x03707344}, [2]uint32{0x243f6a88, 0x85a308d3}, [2]uint32{0xc4923a9c, 0x483df7a0}},
	} {
		var in []*xla.Array
		for _, word := range slices.Concat(c.key[:], c.counter[:]) {
			in = append(in, put(t, 1, []uint32{word}))
		}
		out := outputs(t, program, in...)
		got := [2]uint32{get[uint32](t, out[0])[0], get[uint32](t, out[1])[0]}
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
	n := len(first)
	program, err := compile(t, 1, nil, func(in []*Node) []*Node {
		return []*Node{random.UniformFromBits(in[0]), random.NormalFromBits(in[0], in[1])}
	}, shapes.Make(dtypes.Uint32, n), shapes.Make(dtypes.Uint32, n))
	check(t, err)
	out := outputs(t, program, put(t, 1, first, n), put(t, 1, second, n))
	for i, u := range get[float32](t, out[0]) {
		want := (float64(first[i]>>9) + 0.5) / (1 << 23)
		if float64(u) != want || u <= 0 || u >= 1 {
			t.Errorf("uniform of %#x: got %v, want %v in (0, 1)", first[i], u, want)
		}
	}
	for i, z := range get[float32](t, out[1]) {
		u1, u2 := (float64(first[i]>>9)+0.5)/(1<<23), (float64(second[i]>>9)+0.5)/(1<<23)
		want := math.Sqrt(-2*math.Log(u1)) * math.Cos(2*math.Pi*u2)
		if !(math.Abs(float64(z)-want) < 1e-5) || math.Abs(float64(z)) > 5.78 {
			t.Errorf("normal of %#x, %#x: got %v, want %v", first[i], second[i], z, want)
		}
	}
}

// GoMLX's RandomNormal takes the logarithm of a number that XLA flushes to zero.
func TestShippedNormalOfZero(t *testing.T) {
	program, err := compile(t, 1, nil, func(in []*Node) []*Node {
		u1 := Max(in[0], Const(in[0].Graph(), dtypes.Float32.SmallestNonZeroValueForDType()))
		return []*Node{Sqrt(MulScalar(Log(u1), -2))}
	}, shapes.Make(dtypes.Float32))
	check(t, err)
	out := outputs(t, program, put(t, 1, []float32{0}))
	if r := float64(get[float32](t, out[0])[0]); !math.IsInf(r, 0) && !math.IsNaN(r) {
		t.Errorf("the radius of GoMLX's normal at 0 is now %v: a generator of our own may be needless", r)
	}
}

func TestNormalMoments(t *testing.T) {
	const n = 10_000_000
	z := draw[float32](t, 1, 2, 3, func(key *Node) *Node {
		return random.Normal(key, shapes.Make(dtypes.Float32, n/100, 100))
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
		return random.UniformFromBits(random.Bits(key, n))
	}) {
		if u <= 0 || u >= 1 {
			t.Fatalf("uniform number %v", u)
		}
		sum += float64(u)
	}
	if mean := sum / n; math.Abs(mean-0.5) > 4.5*math.Sqrt(1.0/12/n) {
		t.Errorf("mean of the uniform numbers: got %v", mean)
	}
	static := draw[int32](t, 7, 0, 1, func(key *Node) *Node { return random.Int(key, limit, n) })
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
		return random.Int(key, Const(key.Graph(), int32(limit)), n)
	})
	if !slices.Equal(static, dynamic) {
		t.Error("a limit given as a node draws other integers")
	}
	if _, err := compile(t, 1, nil, func(in []*Node) []*Node {
		return []*Node{random.Int(random.Key(in[0], in[1], 1), 0, n)}
	}, scalars...); err == nil {
		t.Error("limit 0 is accepted")
	}
}

// A number depends on seed, step, purpose and index, and on nothing else.
func TestKeys(t *testing.T) {
	const n = 1000
	bits := func(seed uint64, step int64, purpose uint32, n int) []uint32 {
		return draw[uint32](t, seed, step, purpose, func(key *Node) *Node { return random.Bits(key, n) })
	}
	want := bits(1, 2, 3, n)
	if !slices.Equal(bits(1, 2, 3, n), want) {
		t.Error("the same key draws other numbers in a second run")
	}
	if !slices.Equal(bits(1, 2, 3, 2*n)[:n], want) {
		t.Error("drawing more numbers changes the first ones")
	}
	square := draw[uint32](t, 1, 2, 3, func(key *Node) *Node { return random.Bits(key, 10, 4, 25) })
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
	program, err := compile(t, 1, nil, func(in []*Node) []*Node {
		return []*Node{random.Bits(random.Key(in[0], in[1], 3), n)}
	}, shapes.Make(dtypes.Uint32, 2), shapes.Make(dtypes.Int32))
	check(t, err)
	pair := outputs(t, program, put(t, 1, []uint32{1, 0}, 2), put(t, 1, []int32{2}))[0]
	if !slices.Equal(get[uint32](t, pair), want) {
		t.Error("a seed of two words and a step of 32 bits draw other numbers")
	}
}

// Four devices draw what one draws, replicated or each its shard.
func TestSharded(t *testing.T) {
	shape := shapes.Make(dtypes.Float32, 8, 6, 5)
	one := func(key *Node) *Node { return random.Normal(key, shape) }
	want := draw[float32](t, 5, 6, 7, one)
	wantInts := draw[int32](t, 5, 6, 7, func(key *Node) *Node { return random.Int(key, 1000, 8) })

	const devices = 4
	program, err := compile(t, devices, []xla.Sharding{xla.Batch, xla.Replicated, xla.Batch}, func(in []*Node) []*Node {
		key := random.Key(in[0], in[1], 7)
		return []*Node{one(key), one(key), random.Int(key, 1000, 8)}
	}, scalars...)
	check(t, err)
	out := outputs(t, program, put(t, devices, []uint64{5}), put(t, devices, []int64{6}))
	if !slices.Equal(get[float32](t, out[1]), want) {
		t.Error("replicated: other numbers than on one device")
	}
	if !slices.Equal(get[float32](t, out[0]), want) {
		t.Error("sharded: other numbers than on one device")
	}
	if ints := get[int32](t, out[2]); !slices.Equal(ints, wantInts) {
		t.Errorf("sharded integers: got %v, want %v", ints, wantInts)
	}
}

func BenchmarkNormal(b *testing.B) {
	program, err := compile(b, 1, nil, func(in []*Node) []*Node {
		return []*Node{ReduceAllSum(random.Normal(random.Key(in[0], in[1], 0), shapes.Make(dtypes.Float32, 1<<20)))}
	}, scalars...)
	check(b, err)
	seed := put(b, 1, []uint64{1})
	b.SetBytes(4 << 20)
	for i := range b.N {
		out := outputs(b, program, seed, put(b, 1, []int64{int64(i)}))
		get[float32](b, out[0])
		check(b, out[0].Free())
	}
}

// The rows of a larger array have the same numbers when they are drawn by themselves.
func TestRows(t *testing.T) {
	const rows, width, first = 5, 3, 2
	shape := shapes.Make(dtypes.Float32, rows, width)
	whole := draw[float32](t, 1, 2, 3, func(key *Node) *Node { return random.Normal(key, shape) })
	part := draw[float32](t, 1, 2, 3, func(key *Node) *Node {
		return random.Normal(random.Rows(key, Const(key.Graph(), uint32(first))),
			shapes.Make(dtypes.Float32, rows-first, width))
	})
	if !slices.Equal(part, whole[first*width:]) {
		t.Errorf("got %v, want the end of %v", part, whole)
	}
}
