package diffusers_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"limner/models/checkpoint"
	"limner/models/diffusers"
)

// flaxWeights holds networks of the goldens that lie in the tree as diffusers 0.30.3 writes them for Flax.
const (
	flaxWeights = "../checkpoint/testdata/flax"
	flaxTwins   = "../../testdata/goldens"
)

// asFlax copies a folder of PyTorch's as diffusers' classes for Flax write it: configs with their names and the fields
// that only they have. The networks named come as Flax's weights, the others as safetensors.
func asFlax(t *testing.T, from string, networks map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "flax")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for name, file := range networks {
		raw, err := os.ReadFile(filepath.Join(flaxWeights, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, name, "diffusion_pytorch_model.safetensors")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "diffusion_flax_model.msgpack"), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	classes := regexp.MustCompile(`"(StableDiffusion\w*Pipeline|\w+Scheduler|UNet2DConditionModel|ControlNetModel|` +
		`AutoencoderKL|CLIPTextModel)"`)
	for _, name := range []string{
		"config.json", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json", "vae/config.json",
		"text_encoder/config.json",
	} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		raw = classes.ReplaceAll(raw, []byte(`"Flax$1"`))
		switch name {
		case "config.json": // a ControlNet's
			raw = bytes.Replace(raw, []byte("{"), []byte(`{"sample_size": 32, "num_attention_heads": null,`), 1)
		case "unet/config.json":
			raw = bytes.Replace(raw, []byte("{"), []byte(`{"use_memory_efficient_attention": false, "split_head_dim": true,`), 1)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A folder of Flax's classes is the same model as its twin of PyTorch's, so that all that is made of it is the same to
// the bit, and becomes that twin when it is converted.
func TestFlaxFolder(t *testing.T) {
	twin := filepath.Join(flaxTwins, "sd21-tiny")
	want, err := diffusers.Open(twin)
	if err != nil {
		t.Fatal(err)
	}
	values, err := want.Load(want.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	dir := asFlax(t, twin, map[string]string{"unet": "unet.msgpack"})
	converted := filepath.Join(t.TempDir(), "converted")
	if err := (checkpoint.Conversion{In: dir, Out: converted, To: checkpoint.ToDiffusers}).Run(); err != nil {
		t.Fatal(err)
	}
	written := filepath.Join(t.TempDir(), "written")
	for _, path := range []string{dir, converted, written} {
		got, err := diffusers.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, ignorePlace); diff != "" {
			t.Errorf("%s: configs (-want +got):\n%s", filepath.Base(path), diff)
		}
		loaded, err := got.Load(got.Components()...)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(values, loaded, slices.Equal) {
			t.Errorf("%s: the weights differ", filepath.Base(path))
		}
		if path == converted {
			if err := got.Save(written, values, "F32"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, path := range []string{converted, written} {
		err := filepath.WalkDir(path, func(file string, _ os.DirEntry, err error) error {
			if err == nil && filepath.Ext(file) == ".json" {
				if raw, _ := os.ReadFile(file); bytes.Contains(raw, []byte(`"Flax`)) {
					t.Errorf("%s still names a class of Flax", file)
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestFlaxControlNet(t *testing.T) {
	twin := filepath.Join(flaxTwins, "sd15-tiny", "controlnet")
	want, values, err := diffusers.OpenControlNet(twin)
	if err != nil {
		t.Fatal(err)
	}
	got, loaded, err := diffusers.OpenControlNet(asFlax(t, twin, map[string]string{"": "controlnet.msgpack"}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if !maps.EqualFunc(values, loaded, slices.Equal) {
		t.Error("the weights differ")
	}
}
