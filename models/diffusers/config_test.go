package diffusers_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"limner/controlnet"
	"limner/internal/golden"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/unet"
	"limner/models/vae"
)

// parsers are those of every config.json and scheduler_config.json.
var parsers = map[string]func([]byte) error{
	"unet/config.json":                func(raw []byte) error { _, err := unet.ParseConfig(raw); return err },
	"controlnet/config.json":          func(raw []byte) error { _, err := controlnet.ParseConfig(raw); return err },
	"vae/config.json":                 func(raw []byte) error { _, err := vae.ParseConfig(raw); return err },
	"text_encoder/config.json":        func(raw []byte) error { _, err := clip.ParseConfig(raw); return err },
	"scheduler/scheduler_config.json": func(raw []byte) error { _, err := noise.ParseConfig(raw); return err },
}

func TestUnsupportedFieldsAreNamed(t *testing.T) {
	for _, c := range []struct{ file, was, is, want string }{
		{"unet/config.json", `"silu"`, `"mish"`, `field act_fn: got "mish", supported: "silu"`},
		{"unet/config.json", `"in_channels"`, `"class_embed_type": "timestep", "in_channels"`, `field class_embed_type: unknown`},
		{
			"unet/config.json", `"layers_per_block": 2`, `"layers_per_block": 0`,
			"layers_per_block: got 0, want 1 to 4096",
		},
		{
			"unet/config.json", `"norm_num_groups": 8`, `"norm_num_groups": 7`,
			"16 does not divide into norm_num_groups 7",
		},
		{
			"unet/config.json", `"attention_head_dim": 8`, `"attention_head_dim": [8, 8]`,
			"attention_head_dim: 2 entries for 4",
		},
		{"unet/config.json", `"UpBlock2D"`, `"AttnUpBlock2D"`, `up_block_types: got "AttnUpBlock2D"`},
		{"controlnet/config.json", `"rgb"`, `"gbr"`, `controlnet_conditioning_channel_order: got "gbr", supported: rgb, bgr`},
		{"unet/config.json", `"in_channels"`, `"addition_embed_type": "image", "in_channels"`, `addition_embed_type: got "image", supported: text_time, null`},
		{
			"unet/config.json", `"in_channels"`, `"transformer_layers_per_block": [1, 2], "in_channels"`,
			"transformer_layers_per_block: 2 entries for 4",
		},
		{
			"unet/config.json", `"in_channels"`, `"addition_embed_type": "text_time", "in_channels"`,
			"addition_time_embed_dim: got null, want an even number",
		},
		{
			"unet/config.json", `"layers_per_block": 2`, `"layers_per_block": [2, 2, 1, 2]`,
			"field layers_per_block: got [2,2,1,2], supported: one number, or the same for each level",
		},
		{
			"unet/config.json", `"layers_per_block": 2`, `"layers_per_block": [2, 2]`,
			"field layers_per_block: got [2,2], supported: one number, or the same for each level",
		},
		{
			"unet/config.json", `"sample_size": 8`, `"sample_size": [8, 16]`,
			"field sample_size: got [8,16], supported: one number, or the same for height and width",
		},
		{"unet/config.json", `"attention_head_dim": 8`, `"attention_head_dim": "8"`, `field attention_head_dim: got "8", want a whole number or a list of them`},
		{
			"unet/config.json", `"in_channels"`, `"only_cross_attention": [false, true], "in_channels"`,
			"field only_cross_attention: got [false,true], supported: false, [false, …]",
		},
		{
			"unet/config.json", `"in_channels"`, `"dropout": 1.5, "in_channels"`,
			"dropout: got 1.5, want at least 0 and below 1",
		},
		{
			"unet/config.json", `"in_channels"`, `"time_cond_proj_dim": 256, "in_channels"`,
			"field time_cond_proj_dim: unknown",
		},
		{"text_encoder/config.json", `"hidden_size": 32`, `"hidden_size": "x", "num_hidden_layers": {}, "bos_token_id": [1]`,
			"field bos_token_id: got a list, want a whole number\nfield hidden_size: got a text, want a whole number"},
		{"vae/config.json", `"latent_channels": 4`, `"latent_channels": 4, "shift_factor": 0.1`, "field shift_factor"},
		{"text_encoder/config.json", `"quick_gelu"`, `"relu"`, `hidden_act: got "relu", supported: quick_gelu, gelu`},
		{"scheduler/scheduler_config.json", `"scaled_linear"`, `"squared"`, `beta_schedule: got "squared"`},
	} {
		raw, err := os.ReadFile(golden.Path(t, "sd15-tiny", c.file))
		if err != nil {
			t.Fatal(err)
		}
		parse := parsers[c.file]
		if err := parse(raw); err != nil {
			t.Errorf("%s as it is: %v", c.file, err)
		}
		if !strings.Contains(string(raw), c.was) {
			t.Fatalf("%s has no %s", c.file, c.was)
		}
		changed := strings.Replace(string(raw), c.was, c.is, 1)
		if err := parse([]byte(changed)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: got %v, want %q", c.file, c.is, err, c.want)
		}
	}
}

// What other programs leave in configs without an effect is passed over, and so is a value that means the default
// however it is written; each config is that of the same file without.
func TestHarmlessFieldsArePassedOver(t *testing.T) {
	const ema = `"decay": 0.9999, "inv_gamma": 1.0, "power": 0.75, "min_decay": 0.0, "optimization_step": 7, "update_after_step": 0, "use_ema_warmup": false, `
	for _, c := range []struct{ network, more string }{
		{"unet", ema}, {"unet", `"torch_dtype": "float16", "_name_or_path": "a", "notes": {"by": "us"}, `},
		{"controlnet", ema}, {"vae", ema}, {"text_encoder", ema}, {"text_encoder", `"return_dict": true, "num_beams": 4, "id2label": {"0": "LABEL_0"}, "pruned_heads": {}, "dropout": 0.1, `},
		{"unet", `"only_cross_attention": [false, false, false, false], "mid_block_only_cross_attention": false, `},
		{"unet", `"only_cross_attention": false, "mid_block_only_cross_attention": null, "addition_embed_type_num_heads": 32, `},
		{"controlnet", `"only_cross_attention": [false, false], `}, {"vae", `"shift_factor": 0.0, `}, {"unet", `"transformer_layers_per_block": null, `},
	} {
		raw, err := os.ReadFile(golden.Path(t, "sd15-tiny", c.network, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := trees[c.network](raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := trees[c.network]([]byte(strings.Replace(string(raw), "{", "{"+c.more, 1)))
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s with %s: %v", c.network, c.more, err)
		}
	}
	for _, c := range []struct{ file, was, is string }{
		{"unet", `"layers_per_block": 2`, `"layers_per_block": [2, 2, 2, 2]`}, {"unet", `"cross_attention_dim": 32`, `"cross_attention_dim": [32, 32, 32, 32]`},
		{"unet", `"sample_size": 8`, `"sample_size": [8, 8]`}, {"vae", `"sample_size": 64`, `"sample_size": [64, 64]`},
		{"controlnet", `"layers_per_block": 2`, `"layers_per_block": [2, 2, 2, 2]`},
	} {
		raw, err := os.ReadFile(golden.Path(t, "sd15-tiny", c.file, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), c.was) {
			t.Fatalf("%s has no %s: %s", c.file, c.was, raw)
		}
		want, err := parsed(c.file, raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parsed(c.file, []byte(strings.Replace(string(raw), c.was, c.is, 1)))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s with %s: %v %s", c.file, c.is, err, diff)
		}
	}
}

// parsed is a network's config.
func parsed(network string, raw []byte) (any, error) {
	switch network {
	case "unet":
		return unet.ParseConfig(raw)
	case "controlnet":
		return controlnet.ParseConfig(raw)
	}
	return vae.ParseConfig(raw)
}

// One line says what is passed over, and dropout does not hinder sampling.
func TestPassedOverFieldsAreNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(golden.Path(t, "sd15-tiny"))); err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"unet", "controlnet", "text_encoder"} {
		path := filepath.Join(dir, network, "config.json")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		more := `{"dropout": 0.1, "torch_dtype": "float16", "decay": 0.5,`
		if err := os.WriteFile(path, []byte(strings.Replace(string(raw), "{", more, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	p, err := diffusers.OpenWith(dir, diffusers.Options{Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	if p.UNet.Dropout != 0.1 || controlnet.FromUNet(p.UNet, nil).Dropout != 0 {
		t.Errorf("dropout: got %g", p.UNet.Dropout)
	}
	if _, err := diffusers.ReadControlNet(filepath.Join(dir, "controlnet"), &log); err != nil {
		t.Fatal(err)
	}
	want := dir + "/unet/config.json: passed over, as nothing is computed with them: decay, torch_dtype\n" +
		dir + "/text_encoder/config.json: passed over, as nothing is computed with them: decay\n" +
		dir + "/controlnet/config.json: passed over, as nothing is computed with them: decay, torch_dtype\n"
	if log.String() != want {
		t.Errorf("got\n%swant\n%s", &log, want)
	}
}

// trees parse a config as parsers do and describe the network.
var trees = map[string]func([]byte) (nn.Tree, error){
	"unet": func(raw []byte) (nn.Tree, error) {
		c, err := unet.ParseConfig(raw)
		return treeOf(c.Tree, err)
	},
	"controlnet": func(raw []byte) (nn.Tree, error) {
		c, err := controlnet.ParseConfig(raw)
		return treeOf(c.Tree, err)
	},
	"vae": func(raw []byte) (nn.Tree, error) {
		c, err := vae.ParseConfig(raw)
		return treeOf(c.Tree, err)
	},
	"text_encoder": func(raw []byte) (nn.Tree, error) {
		c, err := clip.ParseConfig(raw)
		return treeOf(c.Tree, err)
	},
}

func treeOf(tree func() nn.Tree, err error) (nn.Tree, error) {
	if err != nil {
		return nil, err
	}
	return tree(), nil
}

// Numbers that no network has are refused by the field's name, before a network is described or memory is taken.
func TestAbsurdNumbersAreRefused(t *testing.T) {
	levels := "[" + strings.TrimSuffix(strings.Repeat("32,", 100_000), ",") + "]"
	for _, c := range []struct{ network, config, want string }{
		{"unet", `{"layers_per_block": 1000000000}`, "layers_per_block: got 1000000000, want 1 to 4096"},
		{"unet", `{"layers_per_block": 1e9}`, "field layers_per_block: got the number 1e9, want a whole number"},
		{
			"unet", `{"transformer_layers_per_block": 1000000000}`,
			"transformer_layers_per_block: got 1000000000, want 1 to 4096",
		},
		{
			"unet", `{"transformer_layers_per_block": 512, "layers_per_block": 3}`,
			"layers_per_block, transformer_layers_per_block: got 6156 layers in all levels, want at most 4096",
		},
		{"unet", `{"block_out_channels": ` + levels + `}`, "block_out_channels: 100000 entries, want 1 to 12"},
		{"unet", `{"block_out_channels": []}`, "block_out_channels: 0 entries, want 1 to 12"},
		{
			"unet", `{"block_out_channels": [320, 640, 1280, 1000000000]}`,
			"block_out_channels: got 1000000000, want 1 to 65536",
		},
		{"unet", `{"block_out_channels": [320, 640, 1280, -32]}`, "block_out_channels: got -32, want 1 to 65536"},
		{"unet", `{"cross_attention_dim": 1000000000}`, "cross_attention_dim: got 1000000000, want 1 to 65536"},
		{"unet", `{"in_channels": 1000000000}`, "in_channels: got 1000000000, want 1 to 65536"},
		{"unet", `{"out_channels": 0}`, "out_channels: got 0, want 1 to 65536"},
		{"unet", `{"sample_size": 1000000000}`, "sample_size: got 1000000000, want 1 to 65536"},
		{"unet", `{"attention_head_dim": 1000000000}`, "attention_head_dim: got 1000000000, want 1 to 65536"},
		{"unet", `{"norm_num_groups": 1000000000}`, "norm_num_groups: got 1000000000, want 1 to 65536"},
		{"unet", `{"norm_eps": -1}`, "norm_eps: got -1, want 0 to 1"},
		{"unet", `{"freq_shift": 160}`, "freq_shift: got 160, want 0 to less than 160"},
		{
			"unet", `{"addition_embed_type": "text_time", "addition_time_embed_dim": 1000000000}`,
			"addition_time_embed_dim: got 1000000000, want an even number",
		},
		{"unet", `{"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 1000000000}`,
			"projection_class_embeddings_input_dim: got 1000000000, want at least 49 and at most 65584"},
		{
			"unet", `{"up_block_types": ` + strings.ReplaceAll(levels, "32", `"x"`) + `}`,
			"up_block_types: 100000 entries for 4 block_out_channels",
		},
		{"controlnet", `{"layers_per_block": 1000000000}`, "layers_per_block: got 1000000000, want 1 to 4096"},
		{
			"controlnet", `{"conditioning_channels": 1000000000}`,
			"conditioning_channels: got 1000000000, want 1 to 65536",
		},
		{
			"controlnet", `{"conditioning_embedding_out_channels": ` + levels + `}`,
			"conditioning_embedding_out_channels: 100000 entries, want 1 to 12",
		},
		{
			"controlnet", `{"conditioning_embedding_out_channels": [16, 1000000000]}`,
			"conditioning_embedding_out_channels: got 1000000000, want 1 to 65536",
		},
		{"vae", `{"layers_per_block": 1000000000}`, "layers_per_block: got 1000000000, want 1 to 4096"},
		{"vae", `{"block_out_channels": ` + levels + `}`, "block_out_channels: 100000 entries, want 1 to 12"},
		{"vae", `{"block_out_channels": [1000000000]}`, "block_out_channels: got 1000000000, want 1 to 65536"},
		{"vae", `{"latent_channels": 1000000000}`, "latent_channels: got 1000000000, want 1 to 65536"},
		{"vae", `{"sample_size": 0}`, "sample_size: got 0, want 1 to 65536"},
		{"vae", `{"scaling_factor": 1e300}`, "scaling_factor: got 1e+300, want 1e-6 to 1e6"},
		{"text_encoder", `{"num_hidden_layers": 1000000000}`, "num_hidden_layers: got 1000000000, want 1 to 4096"},
		{"text_encoder", `{"hidden_size": 1000000000}`, "hidden_size: got 1000000000, want 1 to 65536"},
		{"text_encoder", `{"intermediate_size": 1000000000}`, "intermediate_size: got 1000000000, want 1 to 524288"},
		{"text_encoder", `{"vocab_size": 1000000000}`, "vocab_size: got 1000000000, want 1 to 4194304"},
		{
			"text_encoder", `{"max_position_embeddings": 1000000000}`,
			"max_position_embeddings: got 1000000000, want 1 to 16384",
		},
		{"text_encoder", `{"projection_dim": 1000000000}`, "projection_dim: got 1000000000, want 1 to 65536"},
		{"text_encoder", `{"eos_token_id": 1000000000}`, "eos_token_id: got 1000000000, want -1 to 4194303"},
		{"text_encoder", `{"layer_norm_eps": 2}`, "layer_norm_eps: got 2, want 0 to 1"},
		{"text_encoder", `{"hidden_size": "wide"}`, "field hidden_size: got a text, want a whole number"},
	} {
		tree, err := trees[c.network]([]byte(c.config))
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 1000 {
			t.Errorf("%s %.100s: got %d parameters, %v, want %q", c.network, c.config, len(tree), err, c.want)
		}
	}
}

// A config that is accepted describes a network, whatever its numbers are.
func FuzzTrees(f *testing.F) {
	for network, config := range map[string]string{
		"unet":         `{"block_out_channels": [8, 16], "norm_num_groups": 4, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "cross_attention_dim": 8, "attention_head_dim": [2, 4]}`,
		"controlnet":   `{"block_out_channels": [8], "norm_num_groups": 2, "down_block_types": ["DownBlock2D"], "conditioning_embedding_out_channels": [4, 8]}`,
		"vae":          `{"block_out_channels": [8, 8], "norm_num_groups": 2, "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}`,
		"text_encoder": `{"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}`,
	} {
		f.Add(network, []byte(config))
	}
	f.Fuzz(func(t *testing.T, network string, raw []byte) {
		if parse := trees[network]; parse != nil {
			if tree, err := parse(raw); err == nil && len(tree) == 0 {
				t.Errorf("%s: a network without parameters", raw)
			}
		}
	})
}

func TestGoldenModelKeepsItsBytes(t *testing.T) {
	for _, family := range golden.Families {
		t.Run(family, func(t *testing.T) { checkBytes(t, family) })
	}
}

func checkBytes(t *testing.T, family string) {
	p, err := diffusers.Open(golden.Path(t, family+"-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	values, err := p.Load(p.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := p.Save(dir, values, "F32"); err != nil {
		t.Fatal(err)
	}
	again, err := diffusers.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, again, ignorePlace); diff != "" {
		t.Errorf("configs (-want +got):\n%s", diff)
	}
	reread, err := again.Load(p.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range values {
		for i, v := range reread[key] {
			if v != want[i] {
				t.Fatalf("%s[%d]: got %g, want %g", key, i, v, want[i])
			}
		}
	}
	if len(reread) != len(values) {
		t.Errorf("%d parameters, want %d", len(reread), len(values))
	}
}

func TestNoModel(t *testing.T) {
	empty := t.TempDir()
	other, refiner := t.TempDir(), t.TempDir()
	index := `{"_class_name": "StableDiffusionXLImg2ImgPipeline", "text_encoder": [null, null]}`
	if err := os.WriteFile(filepath.Join(refiner, "model_index.json"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	edits := changed(t, "unet/config.json", `"in_channels": 4`, `"in_channels": 8`)
	if err := os.WriteFile(filepath.Join(other, "model_index.json"), []byte(`{"_class_name": "FluxPipeline"}`),
		0o644); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		filepath.Join(empty, "nowhere"): "no model folder at",
		empty:                           "has no model_index.json",
		other:                           `_class_name: got "FluxPipeline"`,
		refiner: "it has no text_encoder, as the SDXL refiner, " +
			"which is not supported: take SDXL base",
		edits: "the UNet has 8 in_channels: it is of a model for InstructPix2Pix, which is not supported",
	} {
		if _, err := diffusers.Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
}

// changed is a model with other text in one of its files.
func changed(t *testing.T, file, was, is string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(golden.Path(t, "sd15-tiny"))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), was) {
		t.Fatalf("%s has no %s", file, was)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), was, is, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Classes that compute with the same networks open, and are saved as the class without a ControlNet.
func TestClassesOfTheSameNetworks(t *testing.T) {
	for class, want := range map[string]string{
		"StableDiffusionControlNetImg2ImgPipeline": "StableDiffusionImg2ImgPipeline",
		"StableDiffusionControlNetInpaintPipeline": "StableDiffusionInpaintPipeline",
		"LatentConsistencyModelPipeline":           "LatentConsistencyModelPipeline",
		"LatentConsistencyModelImg2ImgPipeline":    "LatentConsistencyModelImg2ImgPipeline",
	} {
		p, err := diffusers.Open(changed(t, "model_index.json", "StableDiffusionPipeline", class))
		if err != nil {
			t.Errorf("%s: %v", class, err)
			continue
		}
		out := filepath.Join(t.TempDir(), "out")
		if err := p.Copy(out, ""); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(out, "model_index.json"))
		if err != nil || !strings.Contains(string(raw), `"`+want+`"`) {
			t.Errorf("%s: saved as %s, %v", class, raw, err)
		}
	}
}

// Of a folder with EMA's weights and the plain ones it is said which are taken.
func TestEMAOfFoldersIsSaid(t *testing.T) {
	dir := changed(t, "unet/config.json", "{", "{")
	plain := filepath.Join(dir, "unet", "diffusion_pytorch_model.safetensors")
	open := func(variant, want string) {
		t.Helper()
		var log strings.Builder
		if _, err := diffusers.OpenWith(dir, diffusers.Options{Variant: variant, Log: &log}); err != nil ||
			!strings.Contains(log.String(), want) || (want == "") != (log.String() == "") {
			t.Errorf("variant %q: got %q, %v, want %q", variant, &log, err, want)
		}
	}
	open("", "")
	raw, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(plain, ".safetensors", ".non_ema.safetensors", 1)
	if err := os.WriteFile(other, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	open("", "those of EMA are taken, --variant non_ema takes the others")
	open("non_ema", "the plain ones are taken")
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "unet_ema"), os.DirFS(filepath.Join(dir, "unet"))); err != nil {
		t.Fatal(err)
	}
	open("", "unet_ema holds the weights of EMA")
}

// Folders of other networks are named by their class.
func TestOtherNetworksAreNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"),
		[]byte(`{"_class_name": "T2IAdapter", "channels": [320]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := diffusers.ReadControlNet(dir, nil); err == nil || !strings.Contains(err.Error(), `_class_name: got "T2IAdapter", want ControlNetModel`) {
		t.Errorf("got %v", err)
	}
}

func FuzzConfigs(f *testing.F) {
	for file := range parsers {
		raw, err := os.ReadFile(golden.Path(f, "sd15-tiny", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, file := range slices.Sorted(maps.Keys(parsers)) {
			_ = parsers[file](raw) // an error or none, never a panic
		}
	})
}
