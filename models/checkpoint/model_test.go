package checkpoint

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/models/nn"
	"limner/models/safetensors"
)

var smallTree = nn.Tree{
	{Key: "conv.weight", Shape: []int{3, 2, 5, 4}, Kind: nn.Kernel},
	{Key: "conv.bias", Shape: []int{4}, Kind: nn.Vector},
	{Key: "linear.weight", Shape: []int{65, 33}, Kind: nn.Dense},
	{Key: "token.weight", Shape: []int{7, 3}, Kind: nn.Table},
}

func smallValues() nn.Values {
	rng := rand.New(rand.NewPCG(1, 2))
	values := nn.Values{}
	for _, s := range smallTree {
		v := make([]float32, s.Size())
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		values[s.Key] = v
	}
	return values
}

func TestSaveLoadIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	want := smallValues()
	for _, dtype := range []string{"F32", "F64"} {
		if err := SaveModel(dir, "model.safetensors", smallTree, want, dtype); err != nil {
			t.Fatal(err)
		}
		m := openModel(t, dir)
		got := load(t, m, smallTree)
		for _, s := range smallTree {
			if !slices.Equal(got[s.Key], want[s.Key]) {
				t.Errorf("%s: %s differs", dtype, s.Key)
			}
			tensor, _ := m.Tensor(s.Key)
			checkLayout(t, s, tensor, want[s.Key])
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("%s: left %v in the folder", dtype, left)
		}
	}
}

// What an optimizer remembers has other shapes than parameters, and codes are whole numbers.
func TestSaveArraysAndCodes(t *testing.T) {
	tree := nn.Tree{
		{Key: "factor", Shape: []int{3, 2, 5}, Kind: nn.Array}, {Key: "codes", Shape: []int{2, 256}, Kind: nn.Codes},
		{Key: "w", Shape: []int{3, 2}, Kind: nn.Dense},
	}
	want := nn.Values{"factor": make([]float32, 30), "codes": make([]float32, 512), "w": {1, 2, 3, 4, 5, 6}}
	for i := range want["factor"] {
		want["factor"][i] = float32(i) / 4
	}
	for i := range want["codes"] {
		want["codes"][i] = float32(i % 256)
	}
	dir := t.TempDir()
	if err := SaveModel(dir, "model.safetensors", tree, want, "BF16"); err != nil {
		t.Fatal(err)
	}
	m := openModel(t, dir)
	got := load(t, m, tree)
	for key, dtype := range map[string]string{"factor": "BF16", "codes": "U8", "w": "BF16"} {
		if tensor, _ := m.Tensor(key); tensor.DType != dtype || !slices.Equal(got[key], want[key]) {
			t.Errorf("%s: got %s, want %s, and the same values", key, tensor.DType, dtype)
		}
	}
	parameters := slices.Clone(tree)
	parameters[1].Kind = nn.Table
	if err := m.Check(parameters); err == nil ||
		!strings.Contains(err.Error(), "dtype: codes: got U8, want F32, F16, BF16 or F64") {
		t.Errorf("codes as parameters: got %v", err)
	}
	codes := slices.Clone(tree)
	codes[2] = nn.Spec{Key: "w", Shape: []int{2, 3}, Kind: nn.Codes}
	if err := m.Check(codes); err == nil || !strings.Contains(err.Error(), "dtype: w: got BF16, want U8") {
		t.Errorf("parameters as codes: got %v", err)
	}
	for _, bad := range []float32{-1, 0.5, 256, float32(math.NaN())} {
		want["codes"][300] = bad
		text := fmt.Sprintf("element [1 44] is %g, which U8 cannot hold", bad)
		if err := SaveModel(dir, "bad.safetensors", tree, want, "F32"); err == nil ||
			!strings.Contains(err.Error(), text) {
			t.Errorf("a code of %g: got %v", bad, err)
		}
	}
}

func TestLoadListsEverything(t *testing.T) {
	dir := t.TempDir()
	one := func(n int) func() ([]float32, error) {
		return func() ([]float32, error) { return make([]float32, n), nil }
	}
	err := safetensors.Write(filepath.Join(dir, "model.safetensors"), []safetensors.Entry{
		{Key: "conv.weight", DType: "F32", Shape: []int{3, 2, 5, 4}, Float32s: one(120)},
		{Key: "linear.weight", DType: "F16", Shape: []int{33, 65, 1, 1}, Float32s: one(33 * 65)},
		{Key: "token.weight", DType: "U8", Shape: []int{7, 3}, Data: make([]byte, 21)},
		{Key: "text_model.embeddings.position_ids", DType: "I64", Shape: []int{1}, Data: make([]byte, 8)},
		{Key: "lora.weight", DType: "F32", Shape: []int{1}, Float32s: one(1)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openModel(t, dir).Load(smallTree)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{
		filepath.Join(dir, "model.safetensors") + ": 5 keys do not fit the model of 4 parameters",
		"shape: conv.weight: got [3 2 5 4], want [4 5 3 2]",
		"missing: conv.bias [4]",
		"shape: linear.weight: got [33 65 1 1], want [33 65]",
		"dtype: token.weight: got U8, want F32",
		"extra: lora.weight [1]",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "position_ids") {
		t.Errorf("position_ids is not ignored: %v", err)
	}
}

func TestBothSpellings(t *testing.T) {
	tree := nn.Tree{{Key: "mid_block.attentions.0.to_q.bias", Shape: []int{1}, Kind: nn.Vector}}
	found, extra := match(tree, []string{"mid_block.attentions.0.query.bias", "mid_block.attentions.0.to_q.bias"})
	if found[tree[0].Key] != tree[0].Key || !slices.Equal(extra, []string{"mid_block.attentions.0.query.bias"}) {
		t.Errorf("got %v and extra %v, want today's key and the old one extra", found, extra)
	}
	found, extra = match(tree, []string{
		"text_model.mid_block.attentions.0.query.bias", "mid_block.attentions.0.proj_attn.bias",
	})
	if found[tree[0].Key] != "text_model.mid_block.attentions.0.query.bias" ||
		!slices.Equal(extra, []string{"mid_block.attentions.0.proj_attn.bias"}) {
		t.Errorf("got %v and extra %v, want the old key and proj_attn extra", found, extra)
	}
}

func TestOpenModelChoice(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		open  string // the file that is taken, or
		fail  string // part of the error
	}{
		"diffusers first": {
			[]string{"model.safetensors", "diffusion_pytorch_model.safetensors"},
			"diffusion_pytorch_model.safetensors", "",
		},
		"transformers":    {[]string{"model.safetensors", "pytorch_model.bin"}, "model.safetensors", ""},
		"full before f16": {[]string{"model.fp16.safetensors", "model.safetensors"}, "model.safetensors", ""},
		"fp16 only": {
			[]string{"diffusion_pytorch_model.fp16.safetensors"}, "diffusion_pytorch_model.fp16.safetensors", "",
		},
		"bf16 only": {[]string{"model.bf16.safetensors"}, "model.bf16.safetensors", ""},
		"pickle": {
			[]string{"config.json", "diffusion_pytorch_model.bin"}, "",
			"only pickled weights (diffusion_pytorch_model.bin)",
		},
		"ckpt": {[]string{"v1-5-pruned.ckpt"}, "", "safe_serialization=True"},
		"flax": {[]string{"diffusion_flax_model.msgpack"}, "diffusion_flax_model.msgpack", ""},
		"other name": {
			[]string{"unet.safetensors"}, "", "has unet.safetensors, want diffusion_pytorch_model.safetensors",
		},
		"nothing":     {[]string{"config.json"}, "", "has no diffusion_pytorch_model.safetensors"},
		"empty index": {[]string{"model.safetensors.index.fp16.json"}, "", "weight_map is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range c.files {
				content := []byte("{}")
				switch filepath.Ext(f) {
				case ".safetensors":
					content = []byte("\x02\x00\x00\x00\x00\x00\x00\x00{}")
				case ".msgpack":
					content = []byte("\x81\xa1a\xc7\x0c\x01\x93\x91\x01\xa5uint8\xc4\x01\x07") // a: [7]
				}
				if err := os.WriteFile(filepath.Join(dir, f), content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			m, err := OpenModel(dir)
			if c.fail != "" {
				if err == nil || !strings.Contains(err.Error(), c.fail) || !strings.Contains(err.Error(), dir) {
					t.Errorf("got %v, want %q", err, c.fail)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if got := filepath.Base(m.Path()); got != c.open {
				t.Errorf("opened %s, want %s", got, c.open)
			}
		})
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if _, err := OpenModel(gone); err == nil || err.Error() != "no model folder at "+gone {
		t.Errorf("got %v", err)
	}
}

func TestSaveModelRejects(t *testing.T) {
	values := smallValues()
	values["conv.bias"] = values["conv.bias"][:3]
	delete(values, "token.weight")
	values["other"] = nil
	dir := t.TempDir()
	err := SaveModel(dir, "model.safetensors", smallTree, values, "F16")
	for _, want := range []string{
		"3 values do not fit", "size: conv.bias: got 3 values, want 4", "missing: token.weight", "extra: other",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := SaveModel(dir, "model.safetensors", smallTree, smallValues(), "I8"); err == nil ||
		!strings.Contains(err.Error(), `dtype "I8"`) {
		t.Errorf("got %v", err)
	}
	twice := append(slices.Clone(smallTree), smallTree[0])
	if err := SaveModel(dir, "model.safetensors", twice, smallValues(), "F32"); err == nil ||
		!strings.Contains(err.Error(), "conv.weight twice") {
		t.Errorf("got %v", err)
	}
	flat := nn.Tree{{Key: "a", Shape: []int{2}, Kind: nn.Dense}}
	if err := SaveModel(dir, "model.safetensors", flat, nn.Values{"a": {1, 2}}, "F32"); err == nil ||
		!strings.Contains(err.Error(), "rank") {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v behind", left)
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	type config struct {
		Blocks []int  `json:"block_out_channels"`
		Act    string `json:"act_fn"`
	}
	want := config{Blocks: []int{1, 2}, Act: "<silu>"}
	if err := WriteJSON(path, want); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := "{\n  \"block_out_channels\": [\n    1,\n    2\n  ],\n  \"act_fn\": \"<silu>\"\n" +
		"}\n"; string(text) != got {
		t.Errorf("got %s", text)
	}
	var got config
	if err := ReadConfig(path, &got); err != nil || !slices.Equal(got.Blocks, want.Blocks) || got.Act != want.Act {
		t.Errorf("got %v, %v", got, err)
	}
	for text, want := range map[string]string{
		"{\n\"act_fn\": 3}":                     `line 2: field act_fn: got a number, want a text`,
		"{\n\n\"block_out_channels\": [1, {}]}": `line 3: field block_out_channels: got an object, want a whole number`,
		"{\n\"act_fn\": \"a\",\n}":              "line 3: not JSON",
		"":                                      "not JSON",
		"[]":                                    "got a list, want an object",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := ReadConfig(path, &got); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if err := ReadConfig(filepath.Join(dir, "gone.json"), &got); err == nil ||
		!strings.Contains(err.Error(), "gone.json: file does not exist") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkKernelToFile(b *testing.B) {
	s := nn.Spec{Shape: []int{3, 3, 640, 640}, Kind: nn.Kernel}
	src := make([]float32, s.Size())
	var scratch []float32
	b.SetBytes(int64(4 * len(src)))
	for b.Loop() {
		toFile(s, src, &scratch)
	}
}
