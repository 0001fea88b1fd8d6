package train

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/internal/settings"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/train/loss"
	"limner/train/optim"
	"limner/train/watch"
)

func tinyRecord() record {
	o := DefaultOptions()
	o.Batch, o.Schedule = 4, optim.Schedule{Name: "constant", Steps: 100}
	ema := optim.DefaultEMA()
	o.EMA = &ema
	basics := Basics{
		ModelOptions: diffusers.ModelOptions{Model: "sd15"}, Data: []string{"data"}, Resolution: 64,
		Reading: data.DefaultReading(),
	}
	return record{
		Options: o, Recipe: Recipe{Basics: basics, Compute: dtypes.Float32},
		Networks: map[string]any{"unet": map[string]any{"block_out_channels": []int{8, 16}}}, Objective: "controlnet",
		UseEMA: true, Rows: 20, Dataset: "ab", Content: data.Content{Sum: "12", Stamps: "34"}, Frozen: "cd",
		Devices: 1, Plugin: "cpu.so",
	}
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*record)
		want   string // in the error; "" goes on
		note   string
	}{
		{"nothing", func(*record) {}, "", ""},
		{"seed", func(r *record) { r.Options.Seed = 4 }, "seed: checkpoint has 0, the run has 4\n", ""},
		{"batch", func(r *record) { r.Options.Batch = 8 }, "global_batch_size: checkpoint has 4, the run has 8", ""},
		{
			"rate", func(r *record) { r.Options.LearningRate = 1e-4 },
			"learning_rate: checkpoint has 0.000005, the run has 0.0001", "",
		},
		{"schedule", func(r *record) { r.Options.Schedule.Name = "linear" }, `lr_scheduler: checkpoint has "constant", the run has "linear"`, ""},
		{
			"optimizer", func(r *record) { r.Options.Optimizer.AdamW.Beta1 = 0.8 },
			"adam_beta1: checkpoint has 0.9, the run has 0.8", "",
		},
		{
			"no average", func(r *record) { r.Options.EMA, r.UseEMA = nil, false },
			"use_ema: checkpoint has true, the run has false\nset", "",
		},
		{
			"average", func(r *record) { r.Options.EMA.Decay = 0.9 },
			"ema.decay: checkpoint has 0.9999, the run has 0.9\n", "",
		},
		{
			"resolution", func(r *record) { r.Recipe.Resolution = 128 },
			"resolution: checkpoint has 64, the run has 128", "",
		},
		{"column", func(r *record) { r.Recipe.CaptionColumn = "prompt" }, `caption_column: checkpoint has "text", the run has "prompt"`, ""},
		{
			"dtype", func(r *record) { r.Recipe.Compute = dtypes.BFloat16 },
			`compute_dtype: checkpoint has "Float32"`, "",
		},
		{
			"rows", func(r *record) { r.Rows, r.Dataset = 21, "ef" },
			"dataset: checkpoint has \"ab\", the run has \"ef\"\ndataset_rows: checkpoint has 20, the run has 21", "",
		},
		{
			"other pictures", func(r *record) { r.Content = data.Content{Sum: "56", Stamps: "78"} },
			"dataset_content: checkpoint has \"12\", the run has \"56\" (pictures or rows were replaced by others " +
				"of the same sizes)\nset", "",
		},
		{
			"copied", func(r *record) { r.Stamps = "78" }, "",
			"files of the dataset were copied or written since: samples of them are the same",
		},
		{"frozen", func(r *record) { r.Frozen = "ef" }, "frozen_weights: checkpoint has", ""},
		{
			"network", func(r *record) { r.Networks["unet"] = map[string]any{"block_out_channels": []int{8, 8}} },
			"networks.unet.block_out_channels: checkpoint has [8,16], the run has [8,8]", "",
		},
		{"objective", func(r *record) { r.Objective = "vae" }, `objective: checkpoint has "controlnet", the run has "vae"`, ""},
		{
			"a new field", func(r *record) { r.Networks["vae"] = map[string]any{"shift": 1} },
			"networks.vae.shift: checkpoint has nothing, the run has 1", "",
		},
		{"a new field that says nothing", func(r *record) { r.Networks["vae"] = map[string]any{"shift": 0} }, "", ""},
		{"more steps", func(r *record) { r.Options.MaxTrainSteps, r.Options.Schedule.Steps = 200, 200 }, "", ""},
		{
			"more steps, with a schedule", func(r *record) {
				r.Options.Schedule = optim.Schedule{Name: "cosine", Steps: 200}
			}, "num_training_steps: checkpoint has 100, the run has 200 (max_train_steps; cosine depends on it)", "",
		},
		{"saves", func(r *record) { r.Options.CheckpointingSteps, r.Options.CheckpointsTotalLimit = 7, 3 }, "", ""},
		{"moved", func(r *record) { r.Recipe.Model, r.Recipe.Data = "/models/sd15", []string{"/data"} }, "", ""},
		{
			"devices", func(r *record) { r.Devices, r.Plugin = 4, "tpu.so" }, "",
			"num_devices: checkpoint has 1, the run has 4: sums come in another order, " +
				"so from here on the last bits differ",
		},
	} {
		raw, err := json.Marshal(tinyRecord())
		if err != nil {
			t.Fatal(err)
		}
		now := tinyRecord()
		c.change(&now)
		notes, err := compare(raw, now)
		if (err == nil) != (c.want == "") ||
			err != nil && !(strings.Contains(err.Error(), c.want) &&
				strings.Contains(err.Error(), "set them back to go on, or start anew with another --output_dir")) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if got := strings.Join(notes, "\n"); !strings.HasPrefix(got, c.note) || (got == "") != (c.note == "") {
			t.Errorf("%s: noted %q, want %q", c.name, got, c.note)
		}
	}
}

// A run that an earlier version began goes on.
func TestCompareWithARecordOfNoContent(t *testing.T) {
	was := tinyRecord()
	raw, err := json.Marshal(was)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{contentName, stampsName} {
		raw = regexp.MustCompile(`\s*"`+field+`": *"[^"]*",`).ReplaceAll(raw, nil)
	}
	if notes, err := compare(raw, was); err != nil || len(notes) != 1 ||
		!strings.Contains(notes[0], "a version that did not look into pictures") {
		t.Errorf("notes %q, error %v", notes, err)
	}
}

// Whatever a record has says what becomes of a run that goes on with another value of it, and under the flag's name.
func TestRecordedFieldsHaveARule(t *testing.T) {
	for _, settings := range []reflect.Type{reflect.TypeFor[Options](), reflect.TypeFor[Recipe]()} {
		eachRecorded(settings, "", func(name string, field reflect.StructField) {
			if rule := field.Tag.Get("resume"); !slices.Contains([]string{"same", "free", "reorder"}, rule) {
				t.Errorf("%s (%s): resume is %q, want same, free or reorder", name, field.Name, rule)
			}
			_, key, _ := strings.Cut("."+name, ".")
			flag, named := field.Tag.Lookup("name")
			if named && !strings.HasPrefix(name, "ema.") && strings.ReplaceAll(flag, "-", "_") != key {
				t.Errorf("%s is recorded as %s", flag, name)
			}
		})
	}
}

// The tags of defaults are values of their fields.
func TestDefaults(t *testing.T) {
	ema := optim.EMA{}
	for _, s := range []any{
		&Options{
			EMA: &ema,
		}, &Recipe{DreamBooth: DreamBooth{Prior: &Prior{}}, LoRASettings: LoRASettings{LoRA: &loss.LoRA{}}},
		&watch.Options{},
	} {
		if err := settings.SetDefaults(s); err != nil {
			t.Error(err)
		}
	}
	if got := DefaultOptions(); got.LearningRate != 5e-6 || got.Schedule.Name != "constant" ||
		got.Optimizer.Adafactor.DecayRate != -0.8 || got.EMA != nil || ema != optim.DefaultEMA() {
		t.Errorf("got %+v and %+v", got, ema)
	}
}

func TestFingerprint(t *testing.T) {
	tree := nn.Tree{{Key: "vae.weight", Shape: []int{10, 100}}, {Key: "vae.bias", Shape: []int{3}}}
	print := func(change func(nn.Values)) string {
		values := nn.Values{"vae.weight": make([]float32, 1000), "vae.bias": {1, 2, 3}}
		change(values)
		sum, err := fingerprint(tree, checkpoint.InMemory(values))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	was := print(func(nn.Values) {})
	if print(func(nn.Values) {}) != was {
		t.Error("the same weights differ")
	}
	if print(func(v nn.Values) { v["vae.bias"][2] = 4 }) == was ||
		print(func(v nn.Values) { v["vae.weight"][500] = 4 }) == was {
		t.Error("other weights are the same")
	}
	if _, err := fingerprint(tree, checkpoint.InMemory{}); err == nil {
		t.Error("weights that are missing have a fingerprint")
	}
}
