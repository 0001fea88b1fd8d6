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
		{"unet/config.json", `"layers_per_block": 2`, `"layers_per_block": 0`, "layers_per_block: got 0, want at least 1"},
		{"unet/config.json", `"norm_num_groups": 8`, `"norm_num_groups": 7`, "16 does not divide into norm_num_groups 7"},
		{"unet/config.json", `"attention_head_dim": 8`, `"attention_head_dim": [8, 8]`, "attention_head_dim: 2 entries for 4"},
		{"unet/config.json", `"UpBlock2D"`, `"AttnUpBlock2D"`, `up_block_types: got "AttnUpBlock2D"`},
		{"controlnet/config.json", `"rgb"`, `"gbr"`, `controlnet_conditioning_channel_order: got "gbr", supported: rgb, bgr`},
		{"unet/config.json", `"in_channels"`, `"addition_embed_type": "image", "in_channels"`, `addition_embed_type: got "image", supported: text_time, null`},
		{"unet/config.json", `"in_channels"`, `"transformer_layers_per_block": [1, 2], "in_channels"`, "transformer_layers_per_block: 2 entries for 4"},
		{"unet/config.json", `"in_channels"`, `"addition_embed_type": "text_time", "in_channels"`, "addition_time_embed_dim: want an even number"},
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
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "model_index.json"), []byte(`{"_class_name": "FluxPipeline"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		filepath.Join(empty, "nowhere"): "no model folder at",
		empty:                           "has no model_index.json",
		other:                           `_class_name: got "FluxPipeline"`,
	} {
		if _, err := diffusers.Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
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
