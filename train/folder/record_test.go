package folder

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testOptions are settings as those of a run are: in structs, some of them optional.
type testOptions struct {
	OutputDir string         `json:"output_dir" resume:"free"`
	Batch     int            `json:"global_batch_size" resume:"same"`
	Rate      float64        `json:"learning_rate" resume:"same"`
	MaxSteps  int            `json:"max_train_steps" resume:"free"`
	Schedule  testSchedule   `json:"schedule"`
	Seed      uint64         `json:"seed" resume:"same"`
	Optimizer map[string]any `json:"optimizer" resume:"same"`
	EMA       *testEMA       `json:"ema"`
}

type testSchedule struct {
	Name  string `json:"lr_scheduler" resume:"same"`
	Steps int    `json:"num_training_steps" resume:"same"`
}

type testEMA struct {
	Decay float64 `json:"decay" resume:"same"`
}

type testRecipe struct {
	TestBasics
	Compute       string `json:"compute_dtype" resume:"same"`
	Interpolation string `json:"image_interpolation_mode" resume:"same"`
}

type TestBasics struct {
	Model      string `json:"pretrained_model_name_or_path" resume:"free"`
	Resolution int    `json:"resolution" resume:"same"`
	Column     string `json:"caption_column,omitempty" resume:"same"`
}

// testRecord is a record whose options and recipe the functions given have changed.
func testRecord(options func(*testOptions), recipe func(*testRecipe)) Record {
	o := testOptions{
		Batch: 4, Rate: 5e-6, Schedule: testSchedule{"constant", 100}, EMA: &testEMA{0.9999},
		Optimizer: map[string]any{"adam_beta1": 0.9},
	}
	options(&o)
	r := testRecipe{TestBasics{Model: "sd15", Resolution: 64, Column: "text"}, "Float32", "lanczos"}
	recipe(&r)
	return Record{
		Options: o, Recipe: r, Networks: map[string]any{"unet": map[string]any{"block_out_channels": []int{8, 16}}},
		Objective: "controlnet", UseEMA: true, Rows: 20, Dataset: "ab", Content: "12", Stamps: "34", Frozen: "cd",
		Devices: 1, Plugin: "cpu.so",
	}
}

func tinyRecord() Record { return testRecord(func(*testOptions) {}, func(*testRecipe) {}) }

// withOptions and withRecipe change a record's settings.
func withOptions(change func(*testOptions)) func(*Record) {
	return func(r *Record) { r.Options = testRecord(change, func(*testRecipe) {}).Options }
}

func withRecipe(change func(*testRecipe)) func(*Record) {
	return func(r *Record) { r.Recipe = testRecord(func(*testOptions) {}, change).Recipe }
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Record)
		want   string // in the error; "" goes on
		note   string
	}{
		{"nothing", func(*Record) {}, "", ""},
		{"seed", withOptions(func(o *testOptions) { o.Seed = 4 }), "seed: checkpoint has 0, the run has 4\n", ""},
		{
			"batch", withOptions(func(o *testOptions) { o.Batch = 8 }),
			"global_batch_size: checkpoint has 4, the run has 8", "",
		},
		{
			"rate", withOptions(func(o *testOptions) { o.Rate = 1e-4 }),
			"learning_rate: checkpoint has 0.000005, the run has 0.0001", "",
		},
		{
			"schedule", withOptions(func(o *testOptions) { o.Schedule.Name = "linear" }),
			`lr_scheduler: checkpoint has "constant", the run has "linear"`, "",
		},
		{
			"optimizer", withOptions(func(o *testOptions) { o.Optimizer["adam_beta1"] = 0.8 }),
			"adam_beta1: checkpoint has 0.9, the run has 0.8", "",
		},
		{
			"no average", func(r *Record) {
				withOptions(func(o *testOptions) { o.EMA = nil })(r)
				r.UseEMA = false
			},
			"use_ema: checkpoint has true, the run has false\nset", "",
		},
		{
			"average", withOptions(func(o *testOptions) { o.EMA.Decay = 0.9 }),
			"ema.decay: checkpoint has 0.9999, the run has 0.9\n", "",
		},
		{
			"resolution", withRecipe(func(r *testRecipe) { r.Resolution = 128 }),
			"resolution: checkpoint has 64, the run has 128", "",
		},
		{
			"column", withRecipe(func(r *testRecipe) { r.Column = "prompt" }),
			`caption_column: checkpoint has "text", the run has "prompt"`, "",
		},
		{
			"dtype", withRecipe(func(r *testRecipe) { r.Compute = "BFloat16" }),
			`compute_dtype: checkpoint has "Float32"`, "",
		},
		{
			"rows", func(r *Record) { r.Rows, r.Dataset = 21, "ef" },
			"dataset: checkpoint has \"ab\", the run has \"ef\"\ndataset_rows: checkpoint has 20, the run has 21", "",
		},
		{
			"other pictures", func(r *Record) { r.Content, r.Stamps = "56", "78" },
			"dataset_content: checkpoint has \"12\", the run has \"56\" (pictures or rows were replaced by others " +
				"of the same sizes)\nset", "",
		},
		{
			"copied", func(r *Record) { r.Stamps = "78" }, "",
			"files of the dataset were copied or written since: samples of them are the same",
		},
		{"frozen", func(r *Record) { r.Frozen = "ef" }, "frozen_weights: checkpoint has", ""},
		{
			"network", func(r *Record) { r.Networks["unet"] = map[string]any{"block_out_channels": []int{8, 8}} },
			"networks.unet.block_out_channels: checkpoint has [8,16], the run has [8,8]", "",
		},
		{
			"objective", func(r *Record) { r.Objective = "vae" },
			`objective: checkpoint has "controlnet", the run has "vae"`, "",
		},
		{
			"a new field", func(r *Record) { r.Networks["vae"] = map[string]any{"shift": 1} },
			"networks.vae.shift: checkpoint has nothing, the run has 1", "",
		},
		{"a new field that says nothing", func(r *Record) { r.Networks["vae"] = map[string]any{"shift": 0} }, "", ""},
		{"more steps", withOptions(func(o *testOptions) { o.MaxSteps, o.Schedule.Steps = 200, 200 }), "", ""},
		{
			"more steps, with a schedule", func(r *Record) {
				withOptions(func(o *testOptions) { o.Schedule.Steps = 200 })(r)
				r.LRScheduler = "cosine"
			}, "num_training_steps: checkpoint has 100, the run has 200 (max_train_steps; cosine depends on it)", "",
		},
		{"output", withOptions(func(o *testOptions) { o.OutputDir = "/out" }), "", ""},
		{"moved", withRecipe(func(r *testRecipe) { r.Model = "/models/sd15" }), "", ""},
		{
			"devices", func(r *Record) { r.Devices, r.Plugin = 4, "tpu.so" }, "",
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

// Records of versions without the setting are of runs that resized by the only filter there was.
func TestCompareInterpolation(t *testing.T) {
	now := tinyRecord()
	raw, err := json.Marshal(now)
	if err != nil {
		t.Fatal(err)
	}
	old := regexp.MustCompile(`,"image_interpolation_mode": *"[^"]*"`).ReplaceAll(raw, nil)
	const want = `image_interpolation_mode: checkpoint has "bilinear", the run has "lanczos"`
	if _, err := compare(old, now); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	withRecipe(func(r *testRecipe) { r.Interpolation = "bilinear" })(&now)
	if _, err := compare(old, now); err != nil {
		t.Error(err)
	}
}

func TestSetting(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ record, name, want, err string }{
		{`{"recipe": {"caption_column": "text"}}`, "caption_column", "text", ""},
		{`{"recipe": {"caption_column": 3}}`, "caption_column", "", "caption_column: got a number, want a text"},
		{`{"recipe": {}}`, interpolationName, "bilinear", ""},
		{`{`, "caption_column", "", RecordName},
	} {
		if err := os.WriteFile(filepath.Join(dir, RecordName), []byte(c.record), 0o644); err != nil {
			t.Fatal(err)
		}
		var got string
		err := Setting(dir, c.name, &got)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %q (%v), want %q (%q)", c.record, got, err, c.want, c.err)
		}
	}
	if err := Setting(t.TempDir(), "caption_column", new(string)); err == nil {
		t.Error("a checkpoint without a record has settings")
	}
}

// A checkpoint's record is compared and returned; one that is no JSON is named.
func TestCompareACheckpoint(t *testing.T) {
	dir := t.TempDir()
	write := func(raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, RecordName), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was := tinyRecord()
	was.ByNeed = true
	raw, err := json.Marshal(was)
	if err != nil {
		t.Fatal(err)
	}
	write(raw)
	if got, notes, err := Compare(dir, tinyRecord()); err != nil || len(notes) > 0 || !got.ByNeed || got.Rows != 20 {
		t.Errorf("got %+v, notes %q, error %v", got, notes, err)
	}
	write(raw[:len(raw)-1])
	if _, _, err := Compare(dir, tinyRecord()); err == nil || !strings.Contains(err.Error(), RecordName) {
		t.Errorf("got error %v, want one that names %s", err, RecordName)
	}
}
