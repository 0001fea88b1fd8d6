package checkpoint

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"limner/models/nn"
	"limner/models/safetensors"
)

// stream collects what Stream yields, by key.
func stream(t testing.TB, m *Model, tree nn.Tree, dtype string) map[string][]byte {
	t.Helper()
	got := map[string][]byte{}
	var order []string
	err := m.Stream(tree, dtype, func(s nn.Spec, write func(to []byte) error) error {
		got[s.Key] = make([]byte, sizeIn(t, dtype, s.Size()))
		order = append(order, s.Key)
		return write(got[s.Key])
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range tree {
		if order[i] != s.Key {
			t.Fatalf("got %s at %d, want %s", order[i], i, s.Key)
		}
	}
	return got
}

// TestStream compares every pair of dtypes with Load: odd shapes, and one parameter that is large enough to be
// spread over cores.
func TestStream(t *testing.T) {
	tree := append(slices.Clone(smallTree),
		nn.Spec{Key: "wide.weight", Shape: []int{131, 1027}, Kind: nn.Dense},
		nn.Spec{Key: "deep.weight", Shape: []int{3, 3, 67, 129}, Kind: nn.Kernel},
		nn.Spec{Key: "one.weight", Shape: []int{1, 1, 1, 5}, Kind: nn.Kernel})
	rng := rand.New(rand.NewPCG(5, 6))
	values := nn.Values{}
	for _, s := range tree {
		v := make([]float32, s.Size())
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		values[s.Key] = v
	}
	for _, from := range []string{"F32", "F16", "BF16", "F64"} {
		dir := t.TempDir()
		if err := SaveModel(dir, "model.safetensors", tree, values, from); err != nil {
			t.Fatal(err)
		}
		m := openModel(t, dir)
		loaded := load(t, m, tree)
		checkSample(t, m, tree, loaded)
		for _, to := range []string{"F32", "F16", "BF16"} {
			got := stream(t, m, tree, to)
			for _, s := range tree {
				want, err := safetensors.Encode(loaded[s.Key], to)
				if err != nil {
					t.Fatalf("%s: %v", s.Key, err)
				}
				if !bytes.Equal(got[s.Key], want) {
					t.Errorf("%s to %s: %s differs from what Load reads", from, to, s.Key)
				}
			}
		}
	}
}

// checkSample compares single elements with what Load reads, of some parameters in another order than the tree's.
func checkSample(t *testing.T, m *Model, tree nn.Tree, loaded nn.Values) {
	t.Helper()
	part := slices.Clone(tree[1:])
	slices.Reverse(part)
	var visited nn.Tree
	err := m.Sample(tree, part, 7, func(s nn.Spec, elements []float32) error {
		visited = append(visited, s)
		all := loaded[s.Key]
		for i, got := range elements {
			if want := all[i*len(all)/len(elements)]; got != want {
				t.Errorf("%s: sampled element %d is %g, want %g", s.Key, i, got, want)
			}
		}
		if len(elements) != min(7, len(all)) {
			t.Errorf("%s: %d elements of %d", s.Key, len(elements), len(all))
		}
		return nil
	})
	if err != nil || len(visited) != len(part) || visited[0].Key != part[0].Key {
		t.Errorf("visited %v, %v", visited, err)
	}
	if err := m.Sample(tree, nn.Tree{{Key: "nothing"}}, 1, nil); err == nil ||
		!strings.Contains(err.Error(), "no parameter nothing") {
		t.Errorf("a parameter that is not there: got %v", err)
	}
}

func TestStreamReadsAgain(t *testing.T) {
	dir := t.TempDir()
	if err := SaveModel(dir, "model.safetensors", smallTree, smallValues(), "F32"); err != nil {
		t.Fatal(err)
	}
	m := openModel(t, dir)
	a, b := stream(t, m, smallTree, "F32"), stream(t, m, smallTree, "F32") // pages that were dropped
	for key := range a {
		if !bytes.Equal(a[key], b[key]) {
			t.Errorf("%s differs when it is read again", key)
		}
	}
}

func TestStreamRejects(t *testing.T) {
	dir := t.TempDir()
	values := smallValues()
	values["linear.weight"][65] = -7e4 // [in 1, out 32]
	values["conv.bias"][0] = float32(math.Inf(1))
	if err := SaveModel(dir, "model.safetensors", smallTree, values, "F32"); err != nil {
		t.Fatal(err)
	}
	m := openModel(t, dir)
	read := func(width int) nn.Visit {
		return func(s nn.Spec, write func(to []byte) error) error { return write(make([]byte, width*s.Size())) }
	}
	err := m.Stream(smallTree, "F16", read(2))
	if want := "linear.weight: element [32 1] is -70000, which F16 cannot hold: " +
		"its largest value is 65504"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := m.Stream(smallTree, "BF16", read(2)); err != nil {
		t.Error(err)
	}
	if err := m.Stream(smallTree, "I8", read(1)); err == nil || !strings.Contains(err.Error(), `dtype "I8"`) {
		t.Errorf("got %v", err)
	}
	if err := m.Stream(smallTree[1:], "F32", read(4)); err == nil ||
		!strings.Contains(err.Error(), "extra: conv.weight") {
		t.Errorf("got %v", err)
	}
	if err := m.Stream(smallTree, "F32", read(2)); err == nil || !strings.Contains(err.Error(), "bytes for ") {
		t.Errorf("too little room: got %v", err)
	}
	if err := m.Stream(smallTree, "F32", func(nn.Spec, func(to []byte) error) error { return os.ErrClosed }); err !=
		os.ErrClosed {
		t.Errorf("got %v, want what visit returned", err)
	}
	err = SaveModel(t.TempDir(), "x.safetensors", smallTree, values, "F16")
	if want := `tensor "linear.weight": element [32 1] is -70000`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestStreamKeepsMemory streams a file of 256 MiB and checks that neither the file nor copies of it stay.
func TestStreamKeepsMemory(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("needs /proc and time")
	}
	path, tree := bigFile(t, "F16", 8, 4096)
	m := openModelFile(t, path)
	before, peak, to := resident(t), 0, make([]byte, 4*tree[0].Size())
	err := m.Stream(tree, "F32", func(_ nn.Spec, write func(to []byte) error) error {
		err := write(to)
		peak = max(peak, resident(t)-before)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const written, one, slack = 64 << 20, 32 << 20, 32 << 20 // one parameter in float32, its pages, the rest
	if peak > written+one+slack {
		t.Errorf("%d MiB more were resident, want at most %d", peak>>20, (written+one+slack)>>20)
	}
}

// resident is the number of bytes of the process in memory.
func resident(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// bigFile writes square matrices of one dtype.
func bigFile(t testing.TB, dtype string, count, side int) (string, nn.Tree) {
	t.Helper()
	values := make([]float32, side*side)
	for i := range values {
		values[i] = float32(i % 1000)
	}
	data, err := safetensors.Encode(values, dtype)
	if err != nil {
		t.Fatal(err)
	}
	var entries []safetensors.Entry
	var tree nn.Tree
	for i := range count {
		key := at("layers", i, "weight")
		entries = append(entries, safetensors.Entry{Key: key, DType: dtype, Shape: []int{side, side}, Data: data})
		tree = append(tree, nn.Spec{Key: key, Shape: []int{side, side}, Kind: nn.Dense})
	}
	path := filepath.Join(t.TempDir(), "big.safetensors")
	if err := safetensors.Write(path, entries, nil); err != nil {
		t.Fatal(err)
	}
	return path, tree
}

func BenchmarkStream(b *testing.B) {
	for _, c := range []struct{ from, to string }{
		{"F16", "F32"}, {"F32", "F32"}, {"F32", "BF16"}, {"F32", "F16"}, {"F16", "F16"},
	} {
		b.Run(c.from+" to "+c.to, func(b *testing.B) {
			path, tree := bigFile(b, c.from, 4, 2048)
			m := openModelFile(b, path)
			b.SetBytes(int64(sizeIn(b, c.to, tree.Size())))
			to := make([]byte, sizeIn(b, c.to, tree[0].Size()))
			for b.Loop() {
				if err := m.Stream(tree, c.to, func(_ nn.Spec, write func(to []byte) error) error {
					return write(to)
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// sizeIn is the number of bytes that elements take in a dtype.
func sizeIn(t testing.TB, dtype string, elements int) int {
	t.Helper()
	n, err := safetensors.ByteSize(dtype, []int{elements})
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}
