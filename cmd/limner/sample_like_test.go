package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"limner/data/imaging"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/sample"
	"limner/sample/batch"
)

// writeLike writes a picture that carries a record: its text, or what it is the JSON of.
func writeLike(t *testing.T, record any) string {
	t.Helper()
	text, ok := record.(string)
	if !ok {
		raw, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		text = string(raw)
	}
	raw, err := imaging.Encode(imaging.NewRGB(8, 8), "png", []imaging.Text{{Key: imaging.TextLimner, Value: text}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "like.png")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// sampledWith are the settings that have a value, as JSON by their names.
func sampledWith(t *testing.T, d *batch.Settings) map[string]json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Of a record that has every flag of the command, whatever names files, devices or places is left alone, in this and in
// older forms.
func TestRecordSetsNoFiles(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]any{}
	for _, leaf := range parser.Model.Leaves(true) {
		if leaf.FullPath() != "limner sample" {
			continue
		}
		for _, flag := range commandFlags(leaf) {
			kind := flag.Target.Type()
			if kind.Kind() == reflect.Slice || kind.Kind() == reflect.Pointer {
				kind = kind.Elem()
			}
			raw := []byte(exampleValue(flag))
			switch kind.Kind() {
			case reflect.String:
				raw, _ = json.Marshal(exampleValue(flag))
			case reflect.Bool:
				raw = []byte("true")
			}
			if flag.IsSlice() {
				raw = []byte("[" + string(raw) + "]")
			}
			flags[underscored(flag.Name)] = json.RawMessage(raw)
		}
	}
	path := writeLike(t, map[string]any{
		"backend": "/evil.so", "inputs": map[string]string{"/dev/zero": "x"}, "sample": flags,
	})
	args := []string{
		"--like", path, "--variant", "v", "--original_config", "o", "--lora", "l", "--textual_inversion", "t",
		"--controlnet", "c", "--latents", "z", "--image", "i", "--mask", "k", "--control_image", "x", "--eta", "0.5",
	}
	got, plain := parseSample(t, args...), parseSample(t, args[2:]...)
	is, was := sampledWith(t, &got.Settings), sampledWith(t, &plain.Settings)
	for name, value := range is {
		want := was[name]
		if slices.Contains(batch.RecordedSettings, name) && name != "eta" {
			want, _ = json.Marshal(flags[name])
		}
		if string(value) != string(want) {
			t.Errorf("%s: got %s, want %s", name, value, want)
		}
	}
	for _, name := range batch.RecordedSettings {
		if _, ok := is[name]; !ok {
			t.Errorf("%s is no setting of an image", name)
		}
	}
	got.Settings, plain.Settings, got.Like = batch.Settings{}, batch.Settings{}, ""
	if !reflect.DeepEqual(got, plain) {
		t.Errorf("got %+v\nwant %+v", got, plain)
	}
}

// What an image carries sets all of its flags again and holds no path.
func TestRecordCarriesNoPath(t *testing.T) {
	strength, negative := 0.5, "bad"
	settings := batch.Settings{
		ModelOptions: diffusers.ModelOptions{
			Model: "/home/me/models/m.safetensors", Variant: "v", OriginalConfig: "/home/me/o",
			PredictionType: "epsilon",
		},
		ControlNets: []string{"/home/me/c", `C:\home\me\d`}, LoRA: []string{"org/l"}, LoRAScale: []float64{0.5},
		TextualInversion: []string{"t=/home/me/u"}, Dtype: "bf16", Prompt: []string{`a "cat": {x}, [y] # — 猫`},
		NegativePrompt: &negative, Height: 64, Width: 72,
		Encoding: sample.Encoding{PromptStyle: clip.Comfy, TruncatePrompts: true, ClipSkip: 1},
		Denoising: sample.Denoising{
			Scheduler: "dpm++_2m_karras", NumInferenceSteps: 7, GuidanceScale: 1e-3, GuidanceRescale: 0.5,
		},
		Seed: 1 << 63, Eta: 1, Image: []string{"/home/me/i, j"}, Mask: []string{"/home/me/k"}, Strength: &strength,
		ControlImage: []string{"/home/me/x", "/home/me/y"}, Preprocess: "canny",
		ControlNetConditioningScale: []float64{1, 2}, ControlGuidanceStart: []float64{0.25},
		ControlGuidanceEnd: []float64{0.75}, GuessMode: true, OriginalSize: []int{1, 2},
		CropsCoordsTopLeft: []int{3, 4}, TargetSize: []int{5, 6}, VAESlicing: true, VAETiling: true, Background: "red",
		Latents: "/home/me/z", BatchRow: 1, BatchSize: 3,
	}
	r := batch.ImageRecord{
		Version: "v", Backend: "plugin.so", Sample: batch.SampledSettings{Settings: settings, NumDevices: 2},
	}
	r.Files = append(r.Files,
		batch.UsedFile{Flag: "pretrained_model_name_or_path", Name: "m.safetensors", SHA256: "abc"},
		batch.UsedFile{Flag: "lora", Name: "org/l", SHA256: "def"},
		batch.UsedFile{Flag: "textual_inversion", Name: "t=u", SHA256: "def"},
		batch.UsedFile{Flag: "image", Name: "i, j", SHA256: "def"})
	text, err := r.Text()
	if err != nil {
		t.Fatal(err)
	}
	path := writeLike(t, text)
	if raw := string(readFile(t, path)); strings.Contains(raw, "home") || !strings.Contains(raw, `{"flag":"textual_inversion","name":"t=u","sha256":"def"}`) {
		t.Errorf("the picture holds %s", raw)
	}
	record, err := batch.ReadRecord(path)
	if err != nil || !reflect.DeepEqual(record.Files, r.Files) || record.Devices != 2 || record.Left != nil {
		t.Errorf("got %+v, %v, want %+v", record, err, r.Files)
	}
	c := parseSample(t, "--like", path, "--model", "m", "--variant", "v", "--original_config", "o", "--lora", "l",
		"--textual_inversion", "t=u", "--controlnet", "c", "--controlnet", "d", "--image", "i", "--mask", "k",
		"--control_image", "x", "--control_image", "y", "--eta", "0.25")
	want := settings
	want.ModelOptions = diffusers.ModelOptions{Model: "m", Variant: "v", OriginalConfig: "o", PredictionType: "epsilon"}
	want.ControlNets, want.LoRA, want.TextualInversion, want.Image, want.Mask = []string{"c", "d"}, []string{"l"},
		[]string{"t=u"}, []string{"i"}, []string{"k"}
	want.ControlImage, want.Latents, want.Eta = []string{"x", "y"}, "", 0.25
	if !reflect.DeepEqual(c.Settings, want) {
		t.Errorf("got %+v\nwant %+v", c.Settings, want)
	}
}

// Where files are missing, the command that names them is printed, and a picture's names cannot be more than names in
// it.
func TestLikePrintsTheCommand(t *testing.T) {
	older := map[string]any{"sample": map[string]any{
		"prompt": []string{"x"}, "pretrained_model_name_or_path": "org/model@main",
		"textual_inversion": []string{"a b=/u/it's"}, "control_image": []string{"/home/me/$(reboot)", "\x1b[2J"},
		"controlnet_model_name_or_path": []string{"../../c/", "c"},
	}}
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	path := writeLike(t, older)
	_, err = parser.Parse([]string{"sample", "--output-dir", "out", "--like", path, "--controlnet", "mine"})
	want := "\nlimner sample --output-dir out --like " + path +
		" --controlnet mine --pretrained_model_name_or_path org/model@main " +
		`--textual_inversion 'a b=PATH/it'\''s' --control_image 'PATH/$(reboot)' --control_image 'PATH/` + "\x1b[2J'\n"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want %q", err, want)
	}
}

// A record that lists some of its files and has others as flags only is asked for all of them.
func TestLikeNamesEveryFile(t *testing.T) {
	path := writeLike(t, map[string]any{
		"files": []batch.UsedFile{{Flag: "image", Name: "i.png"}},
		"sample": map[string]any{
			"image": []string{"/a/other.png"}, "control_image": []string{"/a/c.png"}, "latents": "/a/l.safetensors",
		},
	})
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse([]string{"sample", "--output-dir", "out", "--like", path, "--model", "m"})
	want := " --image PATH/i.png --latents PATH/l.safetensors --control_image PATH/c.png\n"
	if err == nil || !strings.Contains(err.Error()+"\n", want) {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestBadRecords(t *testing.T) {
	for name, c := range map[string]struct {
		record any
		want   string
	}{
		"no flags": {[]int{1}, "its record cannot be read"},
		"many files": {
			map[string]any{"files": make([]batch.UsedFile, 101)}, "it names 101 files, more than the limit of 100",
		},
		"another choice":   {map[string]any{"sample": map[string]any{"dtype": "f8"}}, `record's dtype: got "f8", want one of f32, bf16`},
		"text of a number": {map[string]any{"sample": map[string]any{"height": "tall"}}, "record's height: "},
		"no list":          {map[string]any{"sample": map[string]any{"prompt": "x"}}, "record's prompt: want a list"},
		"a list in a list": {
			map[string]any{"sample": map[string]any{"prompt": [][]string{{"x"}}}},
			"record's prompt: want a plain value",
		},
		"a nested value": {
			map[string]any{"sample": map[string]any{"seed": map[string]int{"a": 1}}},
			"record's seed: want a plain value",
		},
	} {
		parser, err := newParser()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse([]string{
			"sample", "--output-dir", "out", "--model", "m", "--like", writeLike(t, c.record),
		}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
