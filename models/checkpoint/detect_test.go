package checkpoint

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
	"limner/models/nn"
	"limner/models/safetensors"
)

// zeros is a tensor of float16 to write.
func zeros(key string, shape ...int) safetensors.Entry {
	return safetensors.Entry{
		Key: key, DType: "F16", Shape: shape, Data: make([]byte, 2*safetensors.Tensor{Shape: shape}.Size()),
	}
}

func writeFile(t testing.TB, entries ...safetensors.Entry) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.bin") // names say nothing
	if err := safetensors.Write(path, entries, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenFileKinds(t *testing.T) {
	unet := func(prefix string, crossAttention int) []safetensors.Entry {
		return []safetensors.Entry{
			zeros(prefix+"down_blocks.0.resnets.0.conv1.weight", 320, 320, 3, 3),
			zeros(prefix+"up_blocks.0.resnets.0.conv1.weight", 320, 640, 3, 3),
			zeros(prefix+"conv_in.weight", 320, 9, 3, 3),
			zeros(prefix+"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", 4, crossAttention),
		}
	}
	for name, c := range map[string]struct {
		entries    []safetensors.Entry
		kind       Kind
		dialect    Dialect
		family     Family
		inpainting bool
		components []string
	}{
		"inpainting SD 1.x": {unet("", 768), KindComponent, DialectDiffusers, SD1, true, []string{UNet}},
		"SD 2.x":            {unet("", 1024), KindComponent, DialectDiffusers, SD2, true, []string{UNet}},
		"SDXL": {
			append(unet("", 2048), zeros("add_embedding.linear_1.weight", 4, 2816)), KindComponent, DialectDiffusers,
			SDXL, true, []string{UNet},
		},
		"refiner": {
			append(unet("", 1280), zeros("add_embedding.linear_1.weight", 4, 2560)), KindComponent, DialectDiffusers,
			SDXLRefiner, true, []string{UNet},
		},
		"bare LDM UNet": {
			[]safetensors.Entry{
				zeros("input_blocks.0.0.weight", 4, 4, 3, 3), zeros("input_blocks.1.0.in_layers.0.weight", 4),
				zeros("output_blocks.0.0.in_layers.0.weight", 4),
			}, KindComponent, DialectLDM, UnknownFamily, false, []string{UNet},
		},
		"LDM VAE": {
			[]safetensors.Entry{
				zeros("encoder.down.0.block.0.norm1.weight", 4), zeros("decoder.up.0.block.0.norm1.weight", 4),
			}, KindComponent, DialectLDM, UnknownFamily, false, []string{VAE},
		},
		"prefixed LDM VAE": {
			[]safetensors.Entry{zeros("first_stage_model.encoder.down.0.block.0.norm1.weight", 4)}, KindComponent,
			DialectLDM, UnknownFamily, false, []string{VAE},
		},
		"text encoder": {
			[]safetensors.Entry{zeros("text_model.embeddings.token_embedding.weight", 9, 768)}, KindComponent,
			DialectDiffusers, SD1, false, []string{TextEncoder},
		},
		"with projection": {
			[]safetensors.Entry{
				zeros("text_model.embeddings.token_embedding.weight", 9, 1280),
				zeros("text_projection.weight", 1280, 1280),
			}, KindComponent, DialectDiffusers, SDXL, false, []string{TextEncoder},
		},
		"diffusers token": {
			[]safetensors.Entry{zeros("<cat>", 768)}, KindEmbedding, DialectDiffusers, UnknownFamily, false, nil,
		},
		"A1111 token": {
			[]safetensors.Entry{zeros("emb_params", 2, 768)}, KindEmbedding, DialectA1111, UnknownFamily, false, nil,
		},
		"SDXL token": {
			[]safetensors.Entry{zeros("clip_l", 2, 768), zeros("clip_g", 2, 1280)}, KindEmbedding, DialectA1111,
			UnknownFamily, false, nil,
		},
		"whole refiner": {
			[]safetensors.Entry{
				zeros("model.diffusion_model.input_blocks.0.0.weight", 4, 4, 3, 3),
				zeros("conditioner.embedders.0.model.token_embedding.weight", 9, 8),
			}, KindPipeline, DialectLDM, SDXLRefiner, false, []string{UNet, TextEncoder2},
		},
		"UNet in its place": {
			[]safetensors.Entry{zeros("model.diffusion_model.input_blocks.0.0.weight", 4, 4, 3, 3)}, KindComponent,
			DialectLDM, UnknownFamily, false, []string{UNet},
		},
		"something else": {
			[]safetensors.Entry{zeros("a.b", 4), zeros("c.d", 4)}, KindUnknown, DialectNone, UnknownFamily, false, nil,
		},
		"nothing": {nil, KindUnknown, DialectNone, UnknownFamily, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := openFile(t, writeFile(t, c.entries...))
			if got.Kind != c.kind || got.Dialect != c.dialect || got.Family != c.family ||
				got.Inpainting != c.inpainting {
				t.Errorf("got %s, %s, %s, inpainting %v", got.Kind, got.Dialect, got.Family, got.Inpainting)
			}
			if !slices.Equal(got.Components(), c.components) {
				t.Errorf("got components %v, want %v", got.Components(), c.components)
			}
		})
	}
}

func TestOtherFormatsAreExplained(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"zip":       {"PK\x03\x04rest of an archive", "can run code"},
		"pickle":    {"\x80\x02}q\x01.", "torch.load(IN, weights_only=True)"},
		"gguf":      {"GGUF\x03\x00\x00\x00", "quantised"},
		"hdf5":      {"\x89HDF\r\n\x1a\n", "HDF5"},
		"git lfs":   {"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"},
		"web page":  {"<!DOCTYPE html><html>", "a web page"},
		"damaged":   {"\x81\xa1a\xc7\xff\x01\x93", "open msgpack"},
		"noise":     {"\x01\x02\x03", "truncated"},
		"empty":     {"", "got 0 bytes"},
		"flax list": {"\x81\xa1a\x91\x01", "holds a list"},
	} {
		path := filepath.Join(t.TempDir(), "model.safetensors")
		if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFile(path); err == nil || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want the path and %q", name, err, c.want)
		}
	}
	if _, err := OpenFile(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: got %v", err)
	}
	if _, err := OpenModelFile(filepath.Join(t.TempDir(), "gone")); err == nil {
		t.Error("opened a file that does not exist")
	}
}

func TestWrongNetworkIsNamedFirst(t *testing.T) {
	sd15 := treeOf(t, openModel(t, golden.Path(t, "sd15-tiny", "unet")))
	for name, c := range map[string]struct{ path, want string }{
		"family": {
			golden.Path(t, "sdxl-tiny", "unet"), "this is a UNet of SDXL base (cross_attention_dim 40, " +
				"in_channels 4), the run wants a UNet of SD 1.x (cross_attention_dim 32, in_channels 4): ",
		},
		"ControlNet": {
			golden.Path(t, "sd15-tiny", "controlnet"),
			"this is a ControlNet of SD 1.x (cross_attention_dim 32), the run wants a UNet",
		},
		"VAE": {golden.Path(t, "sd15-tiny", "vae"), "this is a VAE (latent_channels 4), the run wants a UNet"},
		"text": {
			golden.Path(t, "sd15-tiny", "text_encoder"),
			"this is a text encoder (hidden_size 32), the run wants a UNet",
		},
	} {
		_, err := openModel(t, c.path).Load(sd15)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %.400v, want %q", name, err, c.want)
			continue
		}
		if n := strings.Count(err.Error(), "\n"); n != listed+1 || !strings.Contains(err.Error(), "… and ") {
			t.Errorf("%s: %d lines, want %d and a count", name, n, listed+1)
		}
	}
}

func TestMisfitsAreExplained(t *testing.T) {
	tree := nn.Tree{
		{Key: "conv_in.weight", Shape: []int{3, 3, 4, 8}, Kind: nn.Kernel},
		{Key: "mid_block.attentions.0.to_q.weight", Shape: []int{4, 8}, Kind: nn.Dense},
		{Key: "down_blocks.0.resnets.0.conv1.weight", Shape: []int{3, 3, 4, 8}, Kind: nn.Kernel},
		{Key: "up_blocks.7.norm.bias", Shape: []int{4}},
	}
	path := writeFile(t, zeros("conv_input.weight", 8, 4, 3, 3), zeros("mid_block.attentions.0.to_q.weight", 4, 8),
		zeros("down_blocks.0.resnets.0.conv1.weight", 3, 3, 4, 8), zeros("up_blocks.8.norm.bias", 4))
	_, err := openModelFile(t, path).Load(tree)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{
		"missing: conv_in.weight [8 4 3 3] (is it conv_input.weight?)",
		"shape: mid_block.attentions.0.to_q.weight: got [4 8], want [8 4]: transposed?",
		"shape: down_blocks.0.resnets.0.conv1.weight: got [3 3 4 8], want [8 4 3 3]: transposed?",
		"missing: up_blocks.7.norm.bias [4]\n",
		"extra: conv_input.weight [8 4 3 3]",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant %q", err, want)
		}
	}
}

// TestWholeOpenCLIP reads a single file of SD 2.x with what published ones have beside diffusers' parameters.
func TestWholeOpenCLIP(t *testing.T) {
	components := folder(t, "sd21-tiny")
	entries, err := singleFile(components, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slices.Clone(entries) {
		const last = "cond_stage_model.model.transformer.resblocks.2."
		if rest, ok := strings.CutPrefix(e.Key, last); ok {
			e.Key = "cond_stage_model.model.transformer.resblocks.3." + rest
			entries = append(entries, e)
		}
	}
	entries = append(entries, zeros("cond_stage_model.model.text_projection", 24, 24),
		zeros("cond_stage_model.model.logit_scale"), zeros("model_ema.decay"),
		zeros("model_ema.diffusion_modelout0weight", 8), zeros("alphas_cumprod", 1000), zeros("betas", 1000))
	c := openFile(t, writeFile(t, entries...))
	for component, want := range components {
		m, _ := c.Component(component)
		sameTensors(t, m, want)
	}
	if c.Kind != KindPipeline || c.Family != SD2 {
		t.Errorf("got %s, %s", c.Kind, c.Family)
	}
	if _, err := OpenModelFile(c.Path()); err == nil ||
		!strings.Contains(err.Error(), "a whole model (unet, vae, text_encoder)") {
		t.Errorf("as one network: got %v", err)
	}
}

// TestGoldenStructure compares what the weights tell with the configs beside them.
func TestGoldenStructure(t *testing.T) {
	for _, dir := range components(t) {
		var c struct {
			ClassName         string   `json:"_class_name"`
			InChannels        int      `json:"in_channels"`
			OutChannels       int      `json:"out_channels"`
			BlockOutChannels  []int    `json:"block_out_channels"`
			DownBlockTypes    []string `json:"down_block_types"`
			LayersPerBlock    int      `json:"layers_per_block"`
			TransformerLayers any      `json:"transformer_layers_per_block"`
			CrossAttentionDim int      `json:"cross_attention_dim"`
			Linear            bool     `json:"use_linear_projection"`
			AdditionInputDim  int      `json:"projection_class_embeddings_input_dim"`
			Conditioning      int      `json:"conditioning_channels"`
			Embedding         []int    `json:"conditioning_embedding_out_channels"`
			LatentChannels    int      `json:"latent_channels"`

			Architectures    []string `json:"architectures"`
			VocabSize        int      `json:"vocab_size"`
			HiddenSize       int      `json:"hidden_size"`
			IntermediateSize int      `json:"intermediate_size"`
			Layers           int      `json:"num_hidden_layers"`
			Positions        int      `json:"max_position_embeddings"`
			ProjectionDim    int      `json:"projection_dim"`
		}
		if err := ReadConfig(filepath.Join(dir, "config.json"), &c); err != nil {
			t.Fatal(err)
		}
		want := Structure{
			InChannels: c.InChannels, OutChannels: c.OutChannels, BlockOutChannels: c.BlockOutChannels,
			LayersPerBlock: c.LayersPerBlock, CrossAttentionDim: c.CrossAttentionDim, LinearProjection: c.Linear,
			AdditionInputDim: c.AdditionInputDim, ConditioningChannels: c.Conditioning,
			ConditioningEmbeddingOutChannels: c.Embedding, LatentChannels: c.LatentChannels, VocabSize: c.VocabSize,
			HiddenSize: c.HiddenSize, IntermediateSize: c.IntermediateSize, NumHiddenLayers: c.Layers,
			MaxPositionEmbeddings: c.Positions,
		}
		switch c.ClassName {
		case "UNet2DConditionModel":
			want.Component = UNet
		case "ControlNetModel":
			want.Component = ControlNet
			if want.ConditioningChannels == 0 {
				want.ConditioningChannels = 3
			}
			if want.InChannels == 0 {
				want.InChannels = 4
			}
		case "AutoencoderKL":
			want.Component = VAE
		default:
			want.Component = TextEncoder
			if slices.Contains(c.Architectures, "CLIPTextModelWithProjection") {
				want.ProjectionDim = c.ProjectionDim
			}
		}
		for level, block := range c.DownBlockTypes {
			if want.Component == VAE {
				break
			}
			depth := 1
			switch layers := c.TransformerLayers.(type) {
			case float64:
				depth = int(layers)
			case []any:
				depth = int(layers[level].(float64))
			}
			want.MidTransformerLayers = depth
			if block == "DownBlock2D" {
				depth = 0
			}
			want.TransformerLayers = append(want.TransformerLayers, depth)
		}
		m := openModel(t, dir)
		if got, ok := m.Structure(); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v, want\n%+v", dir, got, want)
		}
		if got, ok := StructureOf(treeOf(t, m)); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v of the tree, want\n%+v", dir, got, want)
		}
	}
}

// A ControlNet's file with the key "difference" holds less than a ControlNet: no job may take it for one.
func TestDifferenceIsRefused(t *testing.T) {
	dir := t.TempDir()
	whole := openModel(t, golden.Path(t, "sd15-tiny", "controlnet"))
	original := filepath.Join(dir, "original.safetensors")
	if err := SaveControlNetFile(original, whole, ""); err != nil {
		t.Fatal(err)
	}
	bare := openFile(t, original).tensors
	prefixed := map[string]safetensors.Tensor{}
	for key, tensor := range bare {
		prefixed["control_model."+key] = tensor
	}
	for name, tensors := range map[string]map[string]safetensors.Tensor{
		"diffusers": whole.tensors, "LDM": bare, "LDM, prefixed": prefixed,
	} {
		entries := []safetensors.Entry{entryOf(differenceKey,
			safetensors.Floats([]int{1}, []float32{1}, safetensors.FileOrder), "")}
		for key, tensor := range tensors {
			entries = append(entries, entryOf(key, tensor, ""))
		}
		path := filepath.Join(dir, "diffusion_pytorch_model.safetensors")
		if err := safetensors.Write(path, entries, nil); err != nil {
			t.Fatal(err)
		}
		_, openErr := OpenFile(path)
		_, folderErr := OpenModel(dir)
		for job, err := range map[string]error{
			"a file": openErr, "a folder": folderErr,
			"conversion": Conversion{
				In: path, Out: filepath.Join(dir, "out"), To: ToDiffusers,
				Config: golden.Path(t, "sd15-tiny", "controlnet"),
			}.Run(),
		} {
			if err == nil || !strings.Contains(err.Error(), `its key "difference" says that it holds a ControlNet's difference`) {
				t.Errorf("%s, %s: got %v", name, job, err)
			}
		}
		if d, err := Describe(path); err != nil || !d.Difference || len(d.Components) != 1 ||
			d.Components[0].Name != ControlNet {
			t.Errorf("%s: described as %+v, %v", name, d.Components, err)
		}
	}
}

// Kinds that are not supported are named, whoever opens them as whatever.
func TestUnsupportedKindsAreNamed(t *testing.T) {
	for kind, keys := range map[Kind][]string{
		"Control-LoRA": {
			"lora_controlnet", "input_blocks.0.0.weight", "input_blocks.1.0.in_layers.2.up",
			"input_hint_block.0.weight", "zero_convs.0.0.weight",
		},
		"IP-Adapter": {
			"image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight", "ip_adapter.0.to_q_lora.down.weight",
		},
		"T2I-Adapter":       {"body.0.block1.weight", "conv_in.weight"},
		"ControlNet-LLLite": {"lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.down.0.weight"},
		"LoHa": {
			"lora_unet_a.alpha", "lora_unet_a.hada_w1_a", "lora_unet_a.hada_w1_b", "lora_unet_a.hada_w2_a",
			"lora_unet_a.hada_w2_b",
		},
		"LoKr": {"lora_unet_a.alpha", "lora_unet_a.lokr_w1", "lora_unet_a.lokr_w2"},
		"GLoRA": {
			"lora_unet_a.a1.weight", "lora_unet_a.a2.weight", "lora_unet_a.b1.weight", "lora_unet_a.b2.weight",
		},
		"IA3":           {"lora_unet_a.weight", "lora_unet_a.on_input"},
		"OFT":           {"oft_unet_a.oft_blocks", "oft_unet_a.alpha"},
		"BOFT":          {"base_model.model.a.boft_R", "base_model.model.a.boft_s"},
		"motion module": {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"},
		"SD 3":          {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"},
		"Flux":          {"double_blocks.0.img_attn.qkv.weight"},
	} {
		shapes := map[string][]int{}
		for _, key := range keys {
			shapes[key] = []int{1}
		}
		path := loraFile(t, keys, shapes, nil)
		want := string(kind) + ", which is not supported"
		_, errLoRA := OpenLoRA(path)
		_, errModel := OpenModelFile(path)
		errConvert := Conversion{In: path, Out: filepath.Join(t.TempDir(), "x"), To: ToDiffusers}.Run()
		for _, err := range []error{errLoRA, errModel, errConvert} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v", kind, err)
			}
		}
		if d, err := Describe(path); err != nil || d.Kind != kind {
			t.Errorf("%s: described as %s, %v", kind, d.Kind, err)
		}
	}
	shapes := map[string][]int{
		"lora_unet_a.lora_down.weight": {4, 3}, "lora_unet_a.lora_up.weight": {2, 4}, "lora_unet_a.dora_scale": {2},
	}
	if _, err := OpenLoRA(loraFile(t, sortedKeys(shapes), shapes, nil)); err == nil ||
		!strings.Contains(err.Error(), "dora_scale: DoRA") {
		t.Errorf("DoRA: got %v", err)
	}
}

// A whole model's file with EMA's weights too gives the plain ones, and says so.
func TestEMAIsSaid(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	if err := (Conversion{In: golden.Path(t, "sd15-tiny"), Out: path, To: ToSingleFile}).Run(); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries := entriesOf(f, func(key string) string { return key })
	entries = append(entries, safetensors.Entry{
		Key: "model_ema.diffusion_modelout0bias", DType: "F32", Shape: []int{1},
		Float32s: func() ([]float32, error) { return []float32{1}, nil },
	})
	both := filepath.Join(dir, "both.safetensors")
	if err := safetensors.Write(both, entries, nil); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		path: "",
		both: both + " holds the weights of EMA (model_ema) beside the plain ones (model.diffusion_model), " +
			"which are taken, as diffusers does\n",
	} {
		var log strings.Builder
		c := Conversion{In: path, Out: filepath.Join(t.TempDir(), "y.safetensors"), To: ToSingleFile, Log: &log}
		if err := c.Run(); err != nil || log.String() != want {
			t.Errorf("got %q, %v, want %q", &log, err, want)
		}
		if d, err := Describe(path); err != nil || d.EMA != (want != "") {
			t.Errorf("described with EMA %v, %v", d.EMA, err)
		}
	}
}
