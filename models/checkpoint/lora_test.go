package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
	"limner/models/nn"
	"limner/models/safetensors"
)

func openLoRA(t testing.TB, path string) *LoRA {
	t.Helper()
	l, err := OpenLoRA(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// sameLayers compares LoRAs bit by bit.
func sameLayers(t *testing.T, got, want *LoRA) {
	t.Helper()
	if len(got.Layers) != len(want.Layers) {
		t.Fatalf("got %d layers, want %d", len(got.Layers), len(want.Layers))
	}
	for i, w := range want.Layers {
		g := got.Layers[i]
		if g.Component != w.Component || g.Module != w.Module || g.Alpha != w.Alpha {
			t.Fatalf("got %s of %s with alpha %g, want %s of %s with %g",
				g.Module, g.Component, g.Alpha, w.Module, w.Component, w.Alpha)
		}
		if !bytes.Equal(bytesIn(t, g.Down), bytesIn(t, w.Down)) || !bytes.Equal(bytesIn(t, g.Up), bytesIn(t, w.Up)) {
			t.Errorf("%s differs", w.Module)
		}
	}
}

func TestGoldenLoRADialects(t *testing.T) {
	tree := treeOf(t, openModel(t, golden.Path(t, "sd15-tiny", "unet")))
	plain := openLoRA(t, golden.Path(t, "train", "lora", "pytorch_lora_weights.safetensors"))
	if plain.Dialect != DialectDiffusers || 2*len(plain.Layers) != len(keysOf(t, plain.Path())) {
		t.Fatalf("got %s with %d layers of %d tensors", plain.Dialect, len(plain.Layers), len(keysOf(t, plain.Path())))
	}
	for _, layer := range plain.Layers {
		if layer.Scale() != 1 {
			t.Fatalf("%s has scale %g, want 1 in a file without alpha", layer.Module, layer.Scale())
		}
	}
	kohya := openLoRA(t, golden.Path(t, "train", "lora", "kohya.safetensors"))
	want := withAlphas(t, plain, kohya.Path())
	sameLayers(t, kohya, want)
	if err := kohya.Check(UNet, tree); err != nil {
		t.Fatal(err)
	}
	sameLayers(t, kohya, want)

	dir := t.TempDir()
	for _, dialect := range []Dialect{DialectDiffusers, DialectPEFT, DialectKohya} {
		path := filepath.Join(dir, "x.safetensors")
		if err := kohya.Save(path, dialect, ""); err != nil {
			t.Fatal(err)
		}
		l := openLoRA(t, path)
		if l.Dialect != dialect {
			t.Errorf("written as %s, it is read as %s", dialect, l.Dialect)
		}
		if err := l.Check(UNet, tree); err != nil {
			t.Error(err)
		}
		if dialect == DialectDiffusers { // which has no alpha
			sameLayers(t, l, scaled(t, want))
		} else {
			sameLayers(t, l, want)
		}
	}
	for name, rename := range map[string]func(string) string{
		"PEFT's own file": func(key string) string {
			key = "base_model.model." + strings.TrimPrefix(key, "unet.")
			return strings.NewReplacer(".lora.down.", ".lora_A.", ".lora.up.", ".lora_B.").Replace(key)
		},
		"attention processors": func(key string) string {
			return strings.NewReplacer(".to_q.lora.", ".processor.to_q_lora.", ".to_k.lora.", ".processor.to_k_lora.",
				".to_v.lora.", ".processor.to_v_lora.", ".to_out.0.lora.", ".processor.to_out_lora.").Replace(key)
		},
		"without unet": func(key string) string { return strings.TrimPrefix(key, "unet.") },
	} {
		f, err := safetensors.Open(plain.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		path := filepath.Join(dir, "y.safetensors")
		if err := safetensors.Write(path, entriesOf(f, rename), nil); err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		sameLayers(t, openLoRA(t, path), plain)
	}
}

func keysOf(t testing.TB, path string) []string {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Keys()
}

// withAlphas are the layers of a LoRA with the alphas of the file of kohya at path.
func withAlphas(t testing.TB, l *LoRA, path string) *LoRA {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := &LoRA{Layers: slices.Clone(l.Layers)}
	for i, layer := range out.Layers {
		alpha, ok := f.Tensor("lora_unet_" + underscored(layer.Module) + ".alpha")
		if !ok {
			t.Fatalf("%s has no alpha for %s", path, layer.Module)
		}
		values, err := alpha.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		out.Layers[i].Alpha = float64(values[0])
	}
	return out
}

// scaled are the layers of a LoRA with alpha/rank in their second matrices.
func scaled(t testing.TB, l *LoRA) *LoRA {
	t.Helper()
	out := &LoRA{Layers: slices.Clone(l.Layers)}
	for i, layer := range out.Layers {
		values, err := layer.Up.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		var data []byte
		for _, v := range values {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v*float32(layer.Scale())))
		}
		order := layer.Up.Order
		layer.Up = safetensors.RawTensor("F32", layer.Up.Shape, data)
		layer.Up.Order = order
		layer.Alpha = float64(layer.Rank())
		out.Layers[i] = layer
	}
	return out
}

// loraFile writes layers of a rank in the naming of a format string for the module, with alpha where it is not 0.
func loraFile(t testing.TB, keys []string, shapes map[string][]int, metadata map[string]string) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	var entries []safetensors.Entry
	for _, key := range keys {
		shape := shapes[key]
		entries = append(entries, safetensors.Entry{
			Key: key, DType: "F32", Shape: shape, Float32s: func() ([]float32, error) {
				v := make([]float32, safetensors.Tensor{Shape: shape}.Size())
				for i := range v {
					v[i] = float32(rng.NormFloat64())
				}
				return v, nil
			},
		})
	}
	path := filepath.Join(t.TempDir(), "lora.safetensors")
	if err := safetensors.Write(path, entries, metadata); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLoRANames writes a LoRA of every linear layer and convolution of tiny networks under the names of
// kohya, those of the original code included, and finds all of them again.
func TestLoRANames(t *testing.T) {
	for name, c := range map[string]struct {
		model, component string
		underscored      func(module string, tree nn.Tree) string
	}{
		"SD 1.x": {
			"sd15-tiny", UNet, func(m string, _ nn.Tree) string { return "lora_unet_" + underscored(m) },
		},
		"SDXL": {
			"sdxl-tiny", UNet, func(m string, _ nn.Tree) string { return "lora_unet_" + underscored(m) },
		},
		"original names": {"sdxl-tiny", UNet, originalName},
		"original SD 2":  {"sd21-tiny", UNet, originalName},
		"text encoder": {
			"sd15-tiny", TextEncoder, func(m string, _ nn.Tree) string { return "lora_te_" + underscored(m) },
		},
		"second encoder": {
			"sdxl-tiny", TextEncoder2, func(m string, _ nn.Tree) string { return "lora_te2_" + underscored(m) },
		},
		"mixed": {"sd15-tiny", UNet, func(m string, _ nn.Tree) string {
			return "lora_unet_" + strings.Replace(m, ".", "_", strings.Count(m, ".")-2)
		}},
		"mixed encoder": {
			"sd15-tiny", TextEncoder, func(m string, _ nn.Tree) string {
				return "lora_te_" + strings.Replace(m, ".", "_", 4)
			},
		},
		"bare encoder": {
			"sdxl-tiny", TextEncoder, func(m string, _ nn.Tree) string {
				return "lora_te1_text_model_" + underscored(m)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree := treeOf(t, openModel(t, golden.Path(t, c.model, c.component)))
			var keys, modules []string
			shapes := map[string][]int{}
			for _, s := range tree {
				module, ok := strings.CutSuffix(s.Key, ".weight")
				if !ok || s.Kind != nn.Dense && s.Kind != nn.Kernel {
					continue
				}
				modules = append(modules, module)
				key := c.underscored(module, tree)
				f := s.FileShape()
				shapes[key+".lora_down.weight"] = append([]int{2}, f[1:]...)
				shapes[key+".lora_up.weight"] = []int{f[0], 2}
				if s.Kind == nn.Kernel {
					shapes[key+".lora_up.weight"] = []int{f[0], 2, 1, 1}
				}
				keys = append(keys, key+".lora_down.weight", key+".lora_up.weight")
			}
			l := openLoRA(t, loraFile(t, keys, shapes, nil))
			if err := l.Check(c.component, tree); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, layer := range l.Layers {
				got = append(got, layer.Module)
			}
			slices.Sort(modules)
			if !slices.Equal(got, modules) {
				t.Errorf("got %q, want %q", got, modules)
			}
			if m, err := l.Matrices(c.component, tree); err != nil || len(m) != len(modules) {
				t.Errorf("got %d matrices, %v", len(m), err)
			}
		})
	}
}

func originalName(module string, tree nn.Tree) string {
	keys := map[string]bool{}
	for _, s := range tree {
		keys[s.Key] = true
	}
	name, _ := diffusersBlocks(modulesOf(keys)).unetNames().inverse().of(module)
	return "lora_unet_" + underscored(name)
}

// TestSplitKohya needs no network.
func TestSplitKohya(t *testing.T) {
	for name, want := range map[string]string{
		"down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0": "down_blocks.0.attentions.1." +
			"transformer_blocks.0.attn1.to_out.0",
		"mid_block_attentions_0_proj_in":      "mid_block.attentions.0.proj_in",
		"up_blocks_2_resnets_1_time_emb_proj": "up_blocks.2.resnets.1.time_emb_proj",
		"down_blocks_1_attentions_0_transformer_blocks_0_ff_net_0_proj": "down_blocks.1.attentions.0." +
			"transformer_blocks.0.ff.net.0.proj",
		"text_model_encoder_layers_11_self_attn_q_proj": "text_model.encoder.layers.11." +
			"self_attn.q_proj",
		"text_model_encoder_layers_0_mlp_fc1": "text_model.encoder.layers.0.mlp.fc1",
		"input_blocks_4_1_transformer_blocks_0_attn2_to_k": "down_blocks.1.attentions.0." +
			"transformer_blocks.0.attn2.to_k",
		"output_blocks_5_2_conv":     "up_blocks.1.upsamplers.0.conv",
		"input_blocks_3_0_op":        "down_blocks.0.downsamplers.0.conv",
		"middle_block_0_in_layers_2": "mid_block.resnets.0.conv1",
		"time_embed_0":               "time_embedding.linear_1",
		"":                           "",
		"__":                         "__",
	} {
		if got := splitKohya(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestLoRADelta(t *testing.T) {
	tree := nn.Tree{
		{Key: "conv.weight", Shape: []int{3, 3, 5, 7}, Kind: nn.Kernel},
		{Key: "proj.weight", Shape: []int{1, 1, 4, 6}, Kind: nn.Kernel},
		{Key: "linear.weight", Shape: []int{5, 3}, Kind: nn.Dense},
		{Key: "other.weight", Shape: []int{5, 3}, Kind: nn.Dense},
	}
	shapes := map[string][]int{
		"lora_unet_conv.lora_down.weight": {2, 5, 3, 3}, "lora_unet_conv.lora_up.weight": {7, 2, 1, 1},
		"lora_unet_conv.alpha": {}, "lora_unet_proj.lora_down.weight": {2, 4}, "lora_unet_proj.lora_up.weight": {6, 2},
		"lora_unet_linear.lora_down.weight": {4, 5, 1, 1}, "lora_unet_linear.lora_up.weight": {3, 4, 1, 1},
	}
	l := openLoRA(t, loraFile(t, sortedKeys(shapes), shapes, nil))
	values := nn.Values{}
	for _, s := range tree {
		values[s.Key] = make([]float32, s.Size())
	}
	const scale = 0.5
	if err := l.Fuse(UNet, tree, values, scale); err != nil {
		t.Fatal(err)
	}
	for i, s := range tree[:3] {
		layer, ok := l.layer(UNet, s)
		if !ok {
			t.Fatalf("no layer for %v", s)
		}
		if i > 0 && layer.Scale() != 1 {
			t.Errorf("%s: scale %g without alpha", s.Key, layer.Scale())
		}
		down, _ := layer.Down.Float32s()
		up, _ := layer.Up.Float32s()
		f := s.FileShape()
		out, in, area := f[0], f[1], s.Size()/f[0]/f[1]
		for o := range out {
			for c := range in {
				for k := range area {
					var sum float64
					for r := range layer.Rank() {
						sum += float64(up[o*layer.Rank()+r]) * float64(down[(r*in+c)*area+k])
					}
					want := sum * layer.Scale() * scale
					if got := float64(values[s.Key][(k*in+c)*out+o]); math.Abs(got-want) > 1e-5*(1+math.Abs(want)) {
						t.Fatalf("%s[%d %d %d]: got %g, want %g", s.Key, o, c, k, got, want)
					}
				}
			}
		}
		m, err := layer.matrices(s)
		if err != nil || len(m.DownShape) != len(s.Shape) || len(m.UpShape) != len(s.Shape) {
			t.Errorf("%s: got shapes %v and %v, %v", s.Key, m.DownShape, m.UpShape, err)
		}
	}
	for _, v := range values["other.weight"] {
		if v != 0 {
			t.Error("other.weight changed")
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func TestLoRAAlpha(t *testing.T) {
	shapes := map[string][]int{"unet.a.b.lora_A.weight": {4, 3}, "unet.a.b.lora_B.weight": {2, 4}}
	for name, c := range map[string]struct {
		metadata string
		want     float64
	}{
		"none":        {"", 4},
		"for all":     {`{"unet.lora_alpha": 8}`, 8},
		"bare":        {`{"lora_alpha": 2, "r": 4}`, 2},
		"by module":   {`{"unet.lora_alpha": 8, "unet.alpha_pattern": {"a.b": 6}}`, 6},
		"by ending":   {`{"unet.lora_alpha": 8, "unet.alpha_pattern": {"b": 6, "x.b": 7}}`, 6},
		"by rank":     {`{"unet.r": 8, "unet.lora_alpha": 8, "unet.rank_pattern": {"b": 4}}`, 8},
		"rank-stable": {`{"unet.lora_alpha": 8, "unet.use_rslora": true}`, 16},
		"other part":  {`{"text_encoder.lora_alpha": 8}`, 4},
	} {
		var metadata map[string]string
		if c.metadata != "" {
			metadata = map[string]string{LoRAMetadata: c.metadata}
		}
		l := openLoRA(t, loraFile(t, sortedKeys(shapes), shapes, metadata))
		if got := l.Layers[0].Alpha; got != c.want {
			t.Errorf("%s: got %g, want %g", name, got, c.want)
		}
		for _, dialect := range []Dialect{DialectPEFT, DialectKohya, DialectDiffusers} {
			path := filepath.Join(t.TempDir(), "x.safetensors")
			if err := l.Save(path, dialect, ""); err != nil {
				t.Fatal(err)
			}
			tree := nn.Tree{{Key: "a.b.weight", Shape: []int{3, 2}, Kind: nn.Dense}}
			again := openLoRA(t, path)
			if err := again.Check(UNet, tree); err != nil {
				t.Fatal(err)
			}
			want, _ := l.Delta(UNet, tree[0])
			got, err := again.Delta(UNet, tree[0])
			if err != nil || len(got) != 6 {
				t.Fatalf("%s: got %v, %v", dialect, got, err)
			}
			for i := range got {
				if math.Abs(float64(got[i]-want[i])) > 1e-5 {
					t.Errorf("%s, written as %s: it changes by %v, want %v", name, dialect, got, want)
				}
			}
		}
	}
}

func TestLoRARejects(t *testing.T) {
	good := map[string][]int{"lora_unet_a.lora_down.weight": {4, 3}, "lora_unet_a.lora_up.weight": {2, 4}}
	for name, c := range map[string]struct {
		more map[string][]int
		want string
	}{
		"LoHa":       {map[string][]int{"lora_unet_b.hada_w1_a": {1}}, "lora_unet_b.hada_w1_a: LoHa"},
		"LoKr":       {map[string][]int{"lora_unet_b.lokr_w1": {1}}, "LoKr"},
		"DoRA":       {map[string][]int{"lora_unet_a.dora_scale": {1}}, "DoRA"},
		"Tucker":     {map[string][]int{"lora_unet_a.lora_mid.weight": {1}}, "Tucker"},
		"difference": {map[string][]int{"lora_unet_b.diff": {1}}, "a whole difference"},
		"stray":      {map[string][]int{"x": {1}}, "no part of a LoRA"},
		"no up":      {map[string][]int{"lora_unet_b.lora_down.weight": {4, 3}}, "b of unet: up is missing"},
		"no down":    {map[string][]int{"lora_unet_b.lora_up.weight": {4, 3}}, "down is missing"},
		"only alpha": {map[string][]int{"lora_unet_b.alpha": {}}, "neither down nor up"},
		"ranks": {
			map[string][]int{"lora_unet_b.lora_down.weight": {4, 3}, "lora_unet_b.lora_up.weight": {2, 3}},
			"differ in rank",
		},
		"rank 3": {
			map[string][]int{"lora_unet_b.lora_down.weight": {4, 3, 1}, "lora_unet_b.lora_up.weight": {2, 4}},
			"down is [4 3 1]",
		},
		"big up": {
			map[string][]int{"lora_unet_b.lora_down.weight": {4, 3}, "lora_unet_b.lora_up.weight": {2, 4, 3, 3}},
			"up is [2 4 3 3]",
		},
		"long alpha":  {map[string][]int{"lora_unet_a.alpha": {2}}, "want one number"},
		"both spells": {map[string][]int{"unet.a.lora.down.weight": {4, 3}}, "a second one"},
	} {
		shapes := map[string][]int{}
		for _, m := range []map[string][]int{good, c.more} {
			for key, shape := range m {
				shapes[key] = shape
			}
		}
		path := loraFile(t, sortedKeys(shapes), shapes, nil)
		if _, err := OpenLoRA(path); err == nil || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := OpenLoRA(golden.Path(t, "sd15-tiny", "vae", "diffusion_pytorch_model.safetensors")); err == nil ||
		!strings.Contains(err.Error(), "no LoRA but: component") {
		t.Errorf("a VAE: got %v", err)
	}
}

func TestLoRAOfAnotherFamily(t *testing.T) {
	const module = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
	shapes := map[string][]int{
		"unet." + module + ".lora_A.weight": {4, 2048}, "unet." + module + ".lora_B.weight": {640, 4},
		"unet.conv_input.lora_A.weight": {4, 4, 3, 3}, "unet.conv_input.lora_B.weight": {8, 4, 1, 1},
	}
	l := openLoRA(t, loraFile(t, sortedKeys(shapes), shapes, nil))
	err := l.Check(UNet, nn.Tree{
		{Key: module + ".weight", Shape: []int{768, 320}, Kind: nn.Dense},
		{Key: "conv_in.weight", Shape: []int{3, 3, 4, 8}, Kind: nn.Kernel},
	})
	for _, want := range []string{
		"made for a UNet of cross_attention_dim 2048 (SDXL), this one has 768 (SD 1.x)", "2 of 2 layers",
		"shape: " + module + ": got [4 2048] and [640 4], want [rank 768] and [320 rank]",
		"no such layer: conv_input (is it conv_in?)",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %q", err, want)
		}
	}
	if err := l.Check(TextEncoder, nil); err != nil {
		t.Errorf("a component without layers: %v", err)
	}
}

func ExampleLoRALayer() {
	layer := LoRALayer{
		Down: safetensors.Tensor{Shape: []int{8, 320}}, Up: safetensors.Tensor{Shape: []int{320, 8}}, Alpha: 4,
	}
	fmt.Println(layer.Rank(), layer.Scale())
	// Output: 8 0.5
}

// A LoRA in memory's layout has its alpha folded in by diffusers' naming without being turned around.
func TestSaveLoRAFromMemory(t *testing.T) {
	down, up := nn.Spec{Shape: []int{3, 2}, Kind: nn.Dense}, nn.Spec{Shape: []int{2, 3}, Kind: nn.Dense} // rank 2
	layer := LoRALayer{
		Component: UNet, Module: "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", Alpha: 4,
		Down: NewTensor(down, []float32{1, 2, 3, 4, 5, 6}), Up: NewTensor(up, []float32{1, 2, 3, 4, 5, 6}),
	}
	path := filepath.Join(t.TempDir(), "lora.safetensors")
	if err := (&LoRA{Layers: []LoRALayer{layer}}).Save(path, DialectDiffusers, "F32"); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tensor, _ := f.Tensor("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora.up.weight")
	got, err := tensor.Float32s()
	if want := []float32{2, 8, 4, 10, 6, 12}; err != nil || !slices.Equal(got, want) ||
		!slices.Equal(tensor.Shape, []int{3, 2}) {
		t.Errorf("up: got %v of shape %v, %v; want %v", got, tensor.Shape, err, want)
	}
}

// Textual inversions in the file of a LoRA come with it, and go into the one naming that has a place for them.
func TestBundledEmbeddings(t *testing.T) {
	shapes := map[string][]int{
		"lora_unet_mid_block.lora_down.weight": {4, 3}, "lora_unet_mid_block.lora_up.weight": {2, 4},
		"bundle_emb.<cat>.clip_l": {2, 5}, "bundle_emb.<cat>.clip_g": {2, 6},
		"bundle_emb.a dog.string_to_param.*": {3, 5},
	}
	in := loraFile(t, sortedKeys(shapes), shapes, nil)
	check := func(path string) {
		t.Helper()
		l := openLoRA(t, path)
		if len(l.Layers) != 1 || len(l.Embeddings) != 2 || l.Embeddings[0].Token != "<cat>" ||
			l.Embeddings[1].Token != "a dog" {
			t.Fatalf("got %d layers, %v", len(l.Layers), l.Embeddings)
		}
		for component, want := range map[string][]int{TextEncoder: {2, 5}, TextEncoder2: {2, 6}} {
			if v, err := l.Embeddings[0].Vectors(component); err != nil || !slices.Equal(v.Shape, want) {
				t.Errorf("%s: got %v, %v, want %v", component, v.Shape, err, want)
			}
		}
		if v, err := l.Embeddings[1].Vectors(TextEncoder); err != nil || !slices.Equal(v.Shape, []int{3, 5}) {
			t.Errorf("got %v, %v", v.Shape, err)
		}
	}
	check(in)
	for target, said := range map[Target]int{ToLoRAKohya: 0, ToLoRADiffusers: 1, ToLoRAPEFT: 1} {
		var log strings.Builder
		out := filepath.Join(t.TempDir(), "x.safetensors")
		c := Conversion{In: in, Out: out, To: target, Log: &log}
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); strings.Count(got, "\n") != said ||
			said > 0 && !strings.Contains(got, "its textual inversions (<cat>, a dog) are left out") {
			t.Errorf("%s: said %q", target, got)
		}
		if said == 0 {
			check(out)
		}
	}
	shapes["bundle_emb.x.clip_l_out"] = []int{2, 5}
	if _, err := OpenLoRA(loraFile(t, sortedKeys(shapes), shapes, nil)); err == nil ||
		!strings.Contains(err.Error(), "bundle_emb.x: no textual inversion: want emb_params") {
		t.Errorf("got %v", err)
	}
}

func TestLoRAFolders(t *testing.T) {
	const diffusers, kohya = "pytorch_lora_weights.safetensors", "pytorch_lora_weights_kohya.safetensors"
	shapes := map[string][]int{"unet.a.lora.down.weight": {4, 3}, "unet.a.lora.up.weight": {2, 4}}
	file := loraFile(t, sortedKeys(shapes), shapes, nil)
	for name, c := range map[string]struct {
		files []string
		found string
		want  string
	}{
		"limner": {[]string{diffusers, kohya, "recipe.yaml"}, diffusers, ""},
		"kohya":  {[]string{kohya}, kohya, ""},
		"PEFT":   {[]string{"README.md", "adapter_config.json", peftFile}, peftFile, ""},
		"only":   {[]string{"cat.safetensors", "cat.png"}, "cat.safetensors", ""},
		"several": {
			[]string{"b.safetensors", "a.safetensors"}, "",
			"several files, and none of them is named pytorch_lora_weights.safetensors or adapter_model.safetensors: " +
				"give one of a.safetensors, b.safetensors",
		},
		"pickled": {
			[]string{"pytorch_lora_weights.bin"}, "",
			"only pickled weights (pytorch_lora_weights.bin), which are never loaded",
		},
		"nothing": {nil, "", "the folder has no .safetensors file"},
	} {
		dir := t.TempDir()
		for _, name := range c.files {
			content := []byte("{}")
			if strings.HasSuffix(name, ".safetensors") {
				var err error
				if content, err = os.ReadFile(file); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l, err := OpenLoRA(dir)
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		case c.want == "" && (err != nil || l.Path() != filepath.Join(dir, c.found)):
			t.Errorf("%s: got %v, want %s", name, err, c.found)
		case err == nil:
			_ = l.Close()
			if d, err := Describe(dir); err != nil || d.Kind != KindLoRA || d.Path != filepath.Join(dir, c.found) {
				t.Errorf("%s: described as %s %s, %v", name, d.Kind, d.Path, err)
			}
		}
	}
}

// diffusers tells its naming of a text encoder's layers by lora_linear_layer, and compares PEFT's config with names
// that lack text_model since transformers 5.
func TestSaveLoRAOfTextEncoders(t *testing.T) {
	shapes := map[string][]int{}
	for _, component := range []string{TextEncoder, TextEncoder2} {
		for i, rank := range []int{4, 4, 2} {
			key := fmt.Sprintf("%s.text_model.encoder.layers.%d.self_attn.q_proj", component, i)
			shapes[key+".lora_A.weight"], shapes[key+".lora_B.weight"] = []int{rank, 3}, []int{2, rank}
		}
	}
	metadata := map[string]string{LoRAMetadata: `{"text_encoder.lora_alpha": 8, "text_encoder_2.lora_alpha": 2}`}
	l := openLoRA(t, loraFile(t, sortedKeys(shapes), shapes, metadata))
	path := filepath.Join(t.TempDir(), "lora.safetensors")
	if err := l.Save(path, DialectDiffusers, ""); err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(t, path) {
		if !strings.HasSuffix(key, ".q_proj.lora_linear_layer.down.weight") &&
			!strings.HasSuffix(key, ".q_proj.lora_linear_layer.up.weight") {
			t.Errorf("diffusers' naming: got %s", key)
		}
	}
	sameLayers(t, openLoRA(t, path), scaled(t, l))
	if err := l.Save(path, DialectPEFT, ""); err != nil {
		t.Fatal(err)
	}
	again := openLoRA(t, path)
	sameLayers(t, again, l)
	want := `"text_encoder.rank_pattern":{"encoder.layers.2.self_attn.q_proj":2},` +
		`"text_encoder.target_modules":["encoder.layers.0.self_attn.q_proj","encoder.layers.1.self_attn.q_proj","encoder.layers.2.self_attn.q_proj"]`
	if got := again.Metadata[LoRAMetadata]; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s in it", got, want)
	}
}

// The wanted values are those of PEFT 0.21.2's get_pattern_key: the first key in the file's order decides.
func TestAlphaPattern(t *testing.T) {
	const module = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"
	for _, c := range []struct {
		pattern string
		want    float64
	}{
		{`{"to_q": 2, "attn2.to_q": 3}`, 2},
		{`{"attn2.to_q": 3, "to_q": 2}`, 3},
		{`{"zz": 1, "attn2.to_q": 3, "a": 2}`, 3},
		{`{"2.to_q": 2, "to_q": 3}`, 3},
		{`{"to_": 2, "o_q": 3}`, 8},
		{`{"to_[kq]": 5, "to_q": 3}`, 5},
		{`{"attn1.*": 5, ".*attn2.*": 6}`, 6},
		{`{"attn2": 5}`, 8},
		{`{"^down_blocks\\.1\\..*": 4}`, 4},
		{`{"^attentions.*": 4}`, 8},
		{`{"mid|attn2.to_q": 4}`, 4},
		{`{"down_blocks)|(nothing": 4}`, 4},
		{`{"attn2)|(nothing": 4}`, 4},
		{`{"nothing)|(to_q": 4}`, 8},
		{`{"to_q": 2, "attn2.to_q": 3, "to_q": 4}`, 4},
		{`{"attn2xto_q": 2, "attn2.to_q": 1.5}`, 1.5},
		{`{}`, 8},
		{`null`, 8},
	} {
		var p peftPattern
		if err := json.Unmarshal([]byte(c.pattern), &p); err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		config := peftConfig{alpha: new(8.0), alphas: p}
		if got, err := config.alphaOf(module, 4); err != nil || got != c.want {
			t.Errorf("%s: got %g, %v, want %g", c.pattern, got, err, c.want)
		}
	}
}

func TestPatternIsRefused(t *testing.T) {
	shapes := map[string][]int{"unet.a.b.lora_A.weight": {4, 3}, "unet.a.b.lora_B.weight": {2, 4}}
	for config, want := range map[string]string{
		`{"unet.alpha_pattern": {"(?!attn1).*": 2}}`:                 `"(?!attn1).*": the regular expression holds "(?!"`,
		`{"unet.alpha_pattern": {"(a)\\1": 2}}`:                      `"(a)\\1": the regular expression is not supported`,
		`{"unet.alpha_pattern": {"to_(q": 2}}`:                       `to_(q": the regular expression is not supported`,
		`{"unet.alpha_pattern": {"[[:alpha:]]b": 2}}`:                `holds "[:"`,
		`{"unet.alpha_pattern": {"\\pLb": 2}}`:                       `holds "\\p"`,
		`{"unet.alpha_pattern": {"a{,3}": 2}}`:                       `holds "{,"`,
		`{"unet.alpha_pattern": {"x(?i)a": 2}}`:                      `holds "(?i)"`,
		`{"unet.alpha_pattern": {"(?<n>a)": 2}}`:                     `holds "(?<n"`,
		`{"unet.alpha_pattern": {"a": "2"}}`:                         `PEFT's config: alpha_pattern: "a"`,
		`{"unet.alpha_pattern": [1]}`:                                `PEFT's config: alpha_pattern: want an object of numbers`,
		`{"unet.lora_alpha": "8"}`:                                   `PEFT's config: lora_alpha`,
		`{"unet.r": 8}`:                                              `a.b of unet: PEFT's config says rank 8 (r) and has no rank_pattern for it, down has 4 rows`,
		`{"unet.r": 4, "unet.rank_pattern": {"b": 2}}`:               `a.b of unet: rank_pattern "b" of PEFT's config says rank 2, down has 4 rows`,
		`{"alpha_pattern": {"` + strings.Repeat("a", 600) + `": 2}}`: "600 characters",
	} {
		path := loraFile(t, sortedKeys(shapes), shapes, map[string]string{LoRAMetadata: config})
		if _, err := OpenLoRA(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", config, err, want)
		}
	}
}

// A name that another ends with is written so that it matches only its own layer.
func TestPatternsAreWrittenUnambiguous(t *testing.T) {
	shapes := map[string][]int{}
	for module, rank := range map[string]int{"conv_in": 2, "x.conv_in": 3, "y.conv": 3} {
		shapes["unet."+module+".lora_A.weight"], shapes["unet."+module+".lora_B.weight"] = []int{rank, 3},
			[]int{2, rank}
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := openLoRA(t, loraFile(t, sortedKeys(shapes), shapes, nil)).Save(path, DialectPEFT, ""); err != nil {
		t.Fatal(err)
	}
	for _, layer := range openLoRA(t, path).Layers {
		if layer.Scale() != 1 {
			t.Errorf("%s: got scale %g, want 1", layer.Module, layer.Scale())
		}
	}
}
