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
	"limner/models/safetensors"
)

func convert(t *testing.T, c Conversion) {
	t.Helper()
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
}

func TestConvertRoundTrips(t *testing.T) {
	for name, model := range tinyModels {
		t.Run(name, func(t *testing.T) {
			in, dir := golden.Path(t, name), t.TempDir()
			single, again := filepath.Join(dir, "x.safetensors"), filepath.Join(dir, "again")
			convert(t, Conversion{In: in, Out: single, To: ToSingleFile})
			convert(t, Conversion{In: single, Out: again, To: ToDiffusers, Config: in})
			for _, component := range model.components {
				sameTensors(t, openModel(t, filepath.Join(again, component)),
					openModel(t, filepath.Join(in, component)))
				if c, _ := os.ReadFile(filepath.Join(again, component, "config.json")); !bytes.Contains(c,
					[]byte("{")) {
					t.Errorf("no config of %s", component)
				}
			}
			for _, file := range []string{
				"model_index.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json",
			} {
				if _, err := os.Stat(filepath.Join(again, file)); err != nil {
					t.Error(err)
				}
			}
			for _, component := range []string{VAE, ControlNet} {
				alone, folder := filepath.Join(dir, component+".safetensors"), filepath.Join(dir, component)
				convert(t, Conversion{In: filepath.Join(in, component), Out: alone, To: ToSingleFile})
				convert(t, Conversion{In: alone, Out: folder, To: ToDiffusers, Config: in})
				sameTensors(t, openModel(t, folder), openModel(t, filepath.Join(in, component)))
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// TestConvertKeepsBytes needs files in today's naming, which all of SD 1.5's are.
func TestConvertKeepsBytes(t *testing.T) {
	in, dir := golden.Path(t, "sd15-tiny"), t.TempDir()
	single, again := filepath.Join(dir, "x.safetensors"), filepath.Join(dir, "again")
	convert(t, Conversion{In: in, Out: single, To: ToSingleFile})
	convert(t, Conversion{In: single, Out: again, To: ToDiffusers, Config: in})
	for _, file := range []string{
		"unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "unet/config.json",
	} {
		want, err := os.ReadFile(filepath.Join(in, file))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(again, file)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs, %v", file, err)
		}
	}
}

func TestConvertDTypes(t *testing.T) {
	in := golden.Path(t, "sd21-tiny", "unet")
	out := filepath.Join(t.TempDir(), "unet")
	convert(t, Conversion{In: in, Out: out, To: ToDiffusers, DType: "BF16"})
	want, got := openModel(t, in), openModel(t, out)
	for _, key := range want.Keys() {
		var scratch []byte
		w, err := want.tensors[key].Elements("BF16", safetensors.FileOrder, &scratch)
		if g := got.tensors[key]; err != nil || g.DType != "BF16" || !bytes.Equal(bytesIn(t, g), w) {
			t.Errorf("%s: got %s, %v", key, g.DType, err)
		}
	}
}

func TestConvertFlax(t *testing.T) {
	in := t.TempDir()
	for from, to := range map[string]string{
		filepath.Join("testdata", "flax", "unet.msgpack"):  filepath.Join(in, "diffusion_flax_model.msgpack"),
		golden.Path(t, "sd21-tiny", "unet", "config.json"): filepath.Join(in, "config.json"),
	} {
		raw, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.Replace(raw, []byte(`"UNet2DConditionModel"`), []byte(`"FlaxUNet2DConditionModel"`), 1)
		if err := os.WriteFile(to, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "a", "unet")
	convert(t, Conversion{In: in, Out: out, To: ToDiffusers})
	sameTensors(t, openModel(t, out), openModel(t, golden.Path(t, "sd21-tiny", "unet")))
	var config struct {
		ClassName string `json:"_class_name"`
	}
	if err := ReadConfig(filepath.Join(out, "config.json"), &config); err != nil ||
		config.ClassName != "UNet2DConditionModel" {
		t.Errorf("got %q, %v", config.ClassName, err)
	}
}

// TestConvertWithoutSafetyChecker takes configs of a model that has a network more than the file.
func TestConvertWithoutSafetyChecker(t *testing.T) {
	in, config, dir := golden.Path(t, "sd15-tiny"), t.TempDir(), t.TempDir()
	if err := os.CopyFS(config, os.DirFS(in)); err != nil {
		t.Fatal(err)
	}
	index := map[string]any{}
	if err := ReadConfig(filepath.Join(config, "model_index.json"), &index); err != nil {
		t.Fatal(err)
	}
	index["safety_checker"] = []string{"stable_diffusion", "StableDiffusionSafetyChecker"}
	index["requires_safety_checker"] = true
	if err := WriteJSON(filepath.Join(config, "model_index.json"), index); err != nil {
		t.Fatal(err)
	}
	single, out := filepath.Join(dir, "x.safetensors"), filepath.Join(dir, "out")
	convert(t, Conversion{In: in, Out: single, To: ToSingleFile, DType: "F16"})
	convert(t, Conversion{In: single, Out: out, To: ToDiffusers, Config: config})
	raw, err := os.ReadFile(filepath.Join(out, "model_index.json"))
	if err != nil {
		t.Fatal(err)
	}
	index = map[string]any{}
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	if pair, ok := index["safety_checker"].([]any); !ok || pair[0] != nil || index["requires_safety_checker"] != false {
		t.Errorf("got %s", raw)
	}
}

func TestConvertRejects(t *testing.T) {
	sd15, sd21 := golden.Path(t, "sd15-tiny"), golden.Path(t, "sd21-tiny")
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	single := filepath.Join(t.TempDir(), "x.safetensors")
	convert(t, Conversion{In: sd15, Out: single, To: ToSingleFile})
	lora := golden.Path(t, "train", "lora", "kohya.safetensors")
	for name, c := range map[string]struct {
		conversion Conversion
		want       string
	}{
		"unknown target": {Conversion{In: sd15, To: "ckpt"}, `convert to "ckpt"`},
		"no config":      {Conversion{In: single, To: ToDiffusers}, "--config"},
		"config of another": {
			Conversion{In: single, To: ToDiffusers, Config: sd21},
			"cross_attention_dim: the weights of " + single + " have 32, the config 24",
		},
		"full folder": {Conversion{In: sd15, To: ToDiffusers, Out: full}, "is not empty"},
		"a UNet alone": {
			Conversion{In: filepath.Join(sd15, "unet"), To: ToSingleFile}, "a unet alone has no single-file form",
		},
		"LoRA to a folder": {
			Conversion{In: lora, To: ToDiffusers}, "LoRA is no network: a LoRA is converted to lora-diffusers",
		},
		"model to LoRA":      {Conversion{In: single, To: ToLoRAKohya}, "holds no LoRA but: whole model"},
		"nothing there":      {Conversion{In: filepath.Join(full, "gone"), To: ToSingleFile}, "no such file"},
		"no model":           {Conversion{In: full, To: ToSingleFile}, "has no diffusion_pytorch_model.safetensors"},
		"dtype of no number": {Conversion{In: sd15, To: ToSingleFile, DType: "I8"}, `dtype "I8"`},
	} {
		dir := t.TempDir()
		if c.conversion.Out == "" {
			c.conversion.Out = filepath.Join(dir, "out")
		}
		if err := c.conversion.Run(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestDescribe(t *testing.T) {
	d, err := Describe(golden.Path(t, "train", "lora", "kohya.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if p := d.Components[0]; d.Kind != KindLoRA || p.Name != UNet || p.Layers != 128 ||
		!slices.Equal(p.Ranks, []int{4}) || p.Parameters != 21568 {
		t.Errorf("got %s with %+v", d.Kind, p)
	}
	d, err = Describe(golden.Path(t, "sdxl-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range d.Components {
		names = append(names, p.Name)
	}
	if want := []string{"controlnet", "text_encoder", "text_encoder_2", "unet", "vae"}; !slices.Equal(names, want) ||
		d.Family != SDXL || d.Format != "folder" {
		t.Errorf("got %v, %s, %s", names, d.Family, d.Format)
	}
	if !slices.ContainsFunc(d.Tensors, func(i TensorInfo) bool { return i.Key == "unet/conv_in.weight" }) {
		t.Error("the UNet's tensors are missing")
	}

	pickled := t.TempDir()
	for name, content := range map[string]string{"model_index.json": "{}", "unet/diffusion_pytorch_model.bin": "PK"} {
		path := filepath.Join(pickled, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d, err = Describe(pickled)
	if err != nil || len(d.Components) != 1 || !strings.Contains(d.Components[0].Problem, "only pickled weights") {
		t.Errorf("got %+v, %v", d.Components, err)
	}
}
