package checkpoint

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
	"limner/models/nn"
	"limner/models/safetensors"
)

// treeOf infers a tree from what a model's files hold.
func treeOf(t testing.TB, m *Model) nn.Tree {
	t.Helper()
	var tree nn.Tree
	for _, key := range m.Keys() {
		tensor, _ := m.Tensor(key)
		s := nn.Spec{Key: key, Shape: tensor.Shape}
		f := tensor.Shape
		switch {
		case !safetensors.IsFloat(tensor.DType):
			continue
		case len(f) == 1:
			s.Kind = nn.Vector
		case len(f) == 2 && strings.Contains(key, "embeddings.") && strings.HasSuffix(key, "embedding.weight"):
			s.Kind = nn.Table
		case len(f) == 2:
			s.Kind, s.Shape = nn.Dense, []int{f[1], f[0]}
		case len(f) == 4:
			s.Kind, s.Shape = nn.Kernel, []int{f[2], f[3], f[1], f[0]}
		default:
			t.Fatalf("%s %v: no kind has this shape", key, f)
		}
		tree = append(tree, s)
	}
	return tree
}

func openModel(t testing.TB, dir string) *Model {
	t.Helper()
	m, err := OpenModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func load(t testing.TB, m *Model, tree nn.Tree) nn.Values {
	t.Helper()
	values, err := m.Load(tree)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// components lists the folders with weights in all tiny models.
func components(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(golden.Path(t, "*-tiny", "*", "*.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, f := range files {
		dirs = append(dirs, filepath.Dir(f))
	}
	if len(dirs) == 0 {
		t.Fatalf("no *-tiny/*/*.safetensors in %s", golden.Dir(t))
	}
	return slices.Compact(dirs)
}

func TestGoldenModels(t *testing.T) {
	for _, dir := range components(t) {
		t.Run(filepath.Join(filepath.Base(filepath.Dir(dir)), filepath.Base(dir)), func(t *testing.T) {
			m := openModel(t, dir)
			tree := treeOf(t, m)
			values := load(t, m, tree)
			for _, s := range tree {
				tensor, _ := m.Tensor(s.Key)
				checkLayout(t, s, tensor, values[s.Key])
			}

			first, _ := m.Tensor(tree[0].Key)
			out := t.TempDir()
			if err := SaveModel(out, "model.safetensors", tree, values, first.DType); err != nil {
				t.Fatal(err)
			}
			again := openModel(t, out)
			for _, s := range tree {
				want, _ := m.Tensor(s.Key)
				got, ok := again.Tensor(s.Key)
				if !ok || got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) ||
					!bytes.Equal(bytesIn(t, got), bytesIn(t, want)) {
					t.Errorf("%s: got %s %v, want %s %v with the same bytes",
						s.Key, got.DType, got.Shape, want.DType, want.Shape)
				}
			}
		})
	}
}

// checkLayout compares values element by element with the tensor that they were loaded from.
func checkLayout(t *testing.T, s nn.Spec, tensor safetensors.Tensor, values []float32) {
	t.Helper()
	file, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range file {
		at := i
		switch s.Kind {
		case nn.Dense:
			in, out := s.Shape[0], s.Shape[1]
			at = i%in*out + i/in
		case nn.Kernel:
			w, in, out := s.Shape[1], s.Shape[2], s.Shape[3]
			area := s.Shape[0] * w
			o, c, pixel := i/(in*area), i/area%in, i%area
			at = (pixel*in+c)*out + o
		}
		if values[at] != want {
			t.Fatalf("%v: got %v at %d, want %v, which is at %d in the file", s, values[at], at, want, i)
		}
	}
}

// TestGoldenFiles writes every file again from its tensors: the writer's order, header and padding
// are the reference writer's.
func TestGoldenFiles(t *testing.T) {
	for _, dir := range components(t) {
		files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			f, err := safetensors.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			out := filepath.Join(t.TempDir(), "x.safetensors")
			if err := safetensors.Write(out, entriesOf(f, func(key string) string { return key }),
				f.Metadata()); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(f.Path())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: written again, it has other bytes", path)
			}
		}
	}
}

// entriesOf lists a file's tensors under the keys that rename gives them; "" leaves one out.
func entriesOf(f interface {
	Keys() []string
	Tensor(string) (safetensors.Tensor, bool)
}, rename func(string) string) []safetensors.Entry {
	var entries []safetensors.Entry
	for _, key := range f.Keys() {
		if name := rename(key); name != "" {
			tensor, _ := f.Tensor(key)
			entries = append(entries, safetensors.Entry{
				Key: name, DType: tensor.DType, Shape: tensor.Shape, Order: tensor.Order,
				Parts: []safetensors.Tensor{tensor},
			})
		}
	}
	return entries
}

func TestGoldenOldAttentionKeys(t *testing.T) {
	now := openModel(t, golden.Path(t, "sd15-tiny", "vae"))
	path := golden.Path(t, "sd15-tiny-extra", "vae_old_attention_keys.safetensors")
	old, err := OpenModelFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if slices.Equal(old.Keys(), now.Keys()) {
		t.Fatal("the old file has today's keys: nothing is tested")
	}
	tree := treeOf(t, now)
	want, got := load(t, now, tree), load(t, old, tree)
	for _, s := range tree {
		if !slices.Equal(got[s.Key], want[s.Key]) {
			t.Errorf("%s differs", s.Key)
		}
	}

	// Very old files have the same projections as 1×1 convolutions.
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries := entriesOf(f, func(key string) string { return key })
	for i, e := range entries {
		if oldAttention.MatchString(e.Key) && strings.HasSuffix(e.Key, ".weight") {
			entries[i].Shape = []int{e.Shape[0], e.Shape[1], 1, 1}
		}
	}
	dir := t.TempDir()
	if err := safetensors.Write(filepath.Join(dir, "diffusion_pytorch_model.safetensors"), entries, nil); err != nil {
		t.Fatal(err)
	}
	got = load(t, openModel(t, dir), tree)
	for _, s := range tree {
		if !slices.Equal(got[s.Key], want[s.Key]) {
			t.Errorf("%s differs when it is a convolution", s.Key)
		}
	}
}

func TestGoldenTextPrefix(t *testing.T) {
	dir := golden.Path(t, "sd15-tiny", "text_encoder")
	m := openModel(t, dir)
	tree := treeOf(t, m)
	want := load(t, m, tree)
	bare := make(nn.Tree, len(tree))
	for i, s := range tree {
		bare[i] = s
		bare[i].Key = strings.TrimPrefix(s.Key, textPrefix)
	}

	f, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, prefix := range map[string]string{"with": textPrefix, "without": ""} {
		out := t.TempDir()
		entries := entriesOf(f, func(key string) string { return prefix + strings.TrimPrefix(key, textPrefix) })
		if err := safetensors.Write(filepath.Join(out, "model.safetensors"), entries, nil); err != nil {
			t.Fatal(err)
		}
		m := openModel(t, out)
		a, b := load(t, m, tree), load(t, m, bare)
		for i, s := range tree {
			if !slices.Equal(a[s.Key], want[s.Key]) || !slices.Equal(b[bare[i].Key], want[s.Key]) {
				t.Errorf("file %s prefix: %s differs", name, s.Key)
			}
		}
	}
}

func TestGoldenShards(t *testing.T) {
	m := openModel(t, golden.Path(t, "sd15-tiny", "unet"))
	tree := treeOf(t, m)
	want := load(t, m, tree)
	dir := t.TempDir()
	index := map[string]string{}
	names := []string{
		"diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors",
	}
	for i, name := range names {
		entries := entriesOf(m, func(key string) string {
			if len(key)%2 != i {
				return ""
			}
			index[key] = name
			return key
		})
		if err := safetensors.Write(filepath.Join(dir, name), entries, nil); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(dir, "diffusion_pytorch_model.safetensors.index.json")
	if err := WriteJSON(at, map[string]any{"weight_map": index}); err != nil {
		t.Fatal(err)
	}
	got := load(t, openModel(t, dir), tree)
	for _, s := range tree {
		if !slices.Equal(got[s.Key], want[s.Key]) {
			t.Errorf("%s differs", s.Key)
		}
	}

	key := tree[0].Key
	for name, c := range map[string]struct{ shard, want string }{
		"other shard":    {names[1-len(key)%2], "missing in " + names[1-len(key)%2] + ": " + key},
		"no such shard":  {"gone.safetensors", "shard gone.safetensors is missing (3 shards in all)"},
		"outside":        {"../" + names[0], "outside the folder"},
		"above":          {"..", "outside the folder"},
		"a folder below": {"x/" + names[0], "outside the folder"},
	} {
		changed := map[string]string{}
		raw, _ := json.Marshal(index)
		if err := json.Unmarshal(raw, &changed); err != nil {
			t.Fatal(err)
		}
		changed[key] = c.shard
		if err := WriteJSON(at, map[string]any{"weight_map": changed}); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenModel(dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
