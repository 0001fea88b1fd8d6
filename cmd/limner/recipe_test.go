package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// parseTrain parses a command line and returns the command with its flags set.
func parseTrain(t *testing.T, args ...string) (*kong.Context, error) {
	t.Helper()
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	return parser.Parse(withDashes(append([]string{"train"}, args...)))
}

func writeRecipe(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recipe.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Whatever flags a training has, the recipe that is written makes the same command again.
func TestRecipeRoundTrip(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(true) {
		name, ok := strings.CutPrefix(leaf.FullPath(), "limner train ")
		if !ok {
			continue
		}
		args := []string{name, "--output_dir", "out"}
		for _, flag := range commandFlags(leaf) {
			value := exampleValue(flag)
			switch {
			case flag.Name == "output-dir":
			case flag.IsBool():
				args = append(args, "--"+flag.Name)
			default:
				args = append(args, "--"+flag.Name+"="+value)
			}
		}
		first, err := parseTrain(t, args...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := resolvedRecipe(first)
		if err != nil {
			t.Fatal(err)
		}
		for _, where := range []string{"output_dir: ", "backend: ", "executable: ", "compilation_cache_dir: "} {
			if strings.Contains(string(text), where) {
				t.Errorf("%s: the recipe says %swhere the run or native code lies:\n%s", name, where, text)
			}
		}
		path := writeRecipe(t, string(text))
		second, err := parseTrain(t, name, "--output_dir", "out", "--recipe", path, "--resume_from_checkpoint",
			exampleText, "--backend", exampleText)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		for i, flag := range commandFlags(second.Selected()) {
			want := commandFlags(first.Selected())[i].Target.Interface()
			if got := flag.Target.Interface(); !slices.Contains(whereFlags, flag.Name) &&
				!reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s: got %v, want %v", name, flag.Name, got, want)
			}
		}
		again, err := resolvedRecipe(second)
		if err != nil || string(again) != string(text) {
			t.Errorf("%s: written again:\n%s\nwant:\n%s (%v)", name, again, text, err)
		}
	}
}

// exampleText would be something else in YAML if it were not quoted.
const exampleText = "yes: # 'no'"

// exampleValue is a value that is not the flag's default.
func exampleValue(flag *kong.Flag) string {
	if flag.Enum != "" {
		return flag.EnumSlice()[1]
	}
	kind := flag.Target.Type()
	if kind.Kind() == reflect.Slice || kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	switch kind.Kind() {
	case reflect.String:
		return exampleText
	case reflect.Float64:
		return "0.000025"
	}
	return "7"
}

func TestRecipeGivesWayToFlags(t *testing.T) {
	path := writeRecipe(t, `
# of a team
model: sd15
train_data_dir: [a, "b,c"]
output-dir: run
learning_rate: 2e-5
conditioning_embedding_out_channels:
  - 4
  - 8
use_ema: true
mixed_precision: bf16
seed: null
`)
	command, err := parseTrain(t, "controlnet", "--recipe", path, "--mixed_precision", "no", "--train_data_dir", "d")
	if err != nil {
		t.Fatal(err)
	}
	c := command.Selected().Target.Interface().(trainControlNetCmd)
	got := []any{
		c.Basics.Model, c.Basics.Data, c.Options.OutputDir, c.Options.LearningRate, c.ControlNet.EmbeddingChannels,
		c.UseEMA, c.MixedPrecision, c.Options.Seed, c.Basics.Resolution,
	}
	want := []any{"sd15", []string{"d"}, "run", 2e-5, []int{4, 8}, true, "no", uint64(0), 512}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestBadRecipes(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"all fields at once": {
			"learning_rat: 1\nresolution: big\nmixed_precision: fp8\nmodel:\n  name: x\nuse_ema: perhaps\n" +
				"conditioning_embedding_out_channels: [4, x]\nseed: -2\n",
			[]string{
				":1:1: learning_rat is no flag of limner train controlnet (is it learning_rate?)",
				":2:13: resolution: ", `"big"`, `:3:18: mixed_precision: got "fp8", want one of no, fp16, bf16`,
				"pretrained_model_name_or_path: got a mapping", ":6:10: use_ema: ", `:7:38: conditioning_embedding_out_channels: got "x", want a whole number`, `:8:7: seed: got "-2", want a whole number of at least 0`,
			},
		},
		"out of range too": {
			"learning_rat: 1\nlearning_rate: -1\nvalidation_prompt: x\nvalidation_image: y\nvalidation_steps: 0\n" +
				"resolution: big\nmin_timestep: 5\nmax_timestep: 4\noptimizer: adamv\nmodel: z\n",
			[]string{
				":1:1: learning_rat is no flag of limner train controlnet (is it learning_rate?)",
				":2:16: learning_rate: got -1, want above 0", ":5:19: validation_steps: got 0, want at least 1",
				":6:13: resolution: ", ":7:15: min_timestep, max_timestep: got 5 and 4", `:9:12: optimizer: got "adamv", supported: adamw`,
			},
		},
		"twice":         {"learning-rate: 1\nlearning_rate: 2\n", []string{":2:1: learning_rate: given twice"}},
		"the same key":  {"seed: 1\nseed: 2\n", []string{":2:1: "}},
		"no YAML":       {"seed: [1\n", []string{"recipe.yaml:1:"}},
		"a list":        {"- seed\n", []string{":1:1: want lines of the form flag: value"}},
		"two documents": {"seed: 1\n---\nseed: 2\n", []string{"a second document"}},
		"diffusers' flag": {
			"from_pt: true\n", []string{":1:1: from_pt: leave it out: safetensors and Flax weights are told apart"},
		},
		"another recipe": {"recipe: other.yaml\n", []string{"recipe is no flag of limner train controlnet"}},
		"the help":       {"help: true\n", []string{"help is no flag"}},
		"native code": {
			"backend: ./evil.so\nexecutable: [a]\ncompilation-cache-dir: b\n",
			[]string{
				`:1:10: backend: got "./evil.so", want cpu, tpu or cuda`,
				":2:1: executable: a recipe names no programs", ":3:1: compilation-cache-dir: a recipe does not say",
			},
		},
		"nested lists": {
			strings.Repeat("[", 60_000), []string{":1:17: more than 16 lists and mappings within each other"},
		},
		"nested mappings": {"seed: " + strings.Repeat("{a: ", 15_000), []string{":1:71: more than 16 lists"}},
		"nested entries":  {strings.Repeat("- ", 30_000), []string{":1:33: more than 16 lists"}},
		"nested in text": {
			"conditioning_embedding_out_channels: ['" + strings.Repeat("[", 30_000) + "']\n",
			[]string{"want a whole number"},
		},
		"more than recipes are": {
			"# " + strings.Repeat("x", mostRecipe), []string{"65538 bytes, at most 65536 are read"},
		},
	} {
		_, err := parseTrain(t, "controlnet", "--model", "m", "--train_data_dir", "d", "--output_dir", "o", "--recipe",
			writeRecipe(t, c.text))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v\nwant %q", name, err, want)
			}
		}
	}
	if _, err := parseTrain(t, "vae", "--recipe", "/dev/zero"); err == nil ||
		!strings.Contains(err.Error(), "not a regular file but a device") {
		t.Errorf("a device: got %v", err)
	}
	if _, err := parseTrain(t, "vae", "--recipe", "nowhere.yaml"); err == nil ||
		!strings.Contains(err.Error(), "recipe: open nowhere.yaml") {
		t.Errorf("no such file: got %v", err)
	}
}

// Values out of range stand where the recipe has them, unless the command line's came first.
func TestRecipeOutOfRange(t *testing.T) {
	path := writeRecipe(t, "rank: 0\nlearning_rate: 1e-4\nnoise_offset: -1\nlora_dropout: 2\nglobal_batch_size: -3\n")
	_, stderr, code := limner(t, t.TempDir(), "train", "lora", "--model", "m", "--train_data_dir", "d", "--output_dir",
		"o", "--recipe", path, "--learning_rate=-1", "--lora_dropout=3")
	want := fmt.Sprintf(`limner: %s:5:20: train_batch_size, global_batch_size: got -3, want 1 to 1048576
  learning_rate: got -1, want above 0
  %s:1:7: rank: got 0, want 1 to 16384
  lora_dropout: got 3, want at least 0 and below 1
  %s:3:15: noise_offset: got -1, want at least 0
`, path, path, path)
	if code != exitUsage || stderr != want {
		t.Errorf("exit code %d:\n%s\nwant:\n%s", code, stderr, want)
	}
}

// A flag of diffusers' scripts either works or explains itself.
func TestDiffusersFlags(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, leaf := range parser.Model.Leaves(true) {
		for _, flag := range commandFlags(leaf) {
			known[flag.Name] = true
		}
	}
	for name := range known {
		if foreignFlags[name] != "" || passedFlags[name].why != "" {
			t.Errorf("--%s is a flag and needs no explanation", name)
		}
	}
	for _, name := range severalValues {
		if !known[name] && name != "validation-prompts" {
			t.Errorf("--%s is no flag", name)
		}
	}
}

// A recipe is what an editor on any system saves.
func TestRecipeOfAnyEditor(t *testing.T) {
	const text = "seed: 7\r\nmax_train_steps: 3\r\n"
	utf16 := []byte("\xff\xfe")
	for _, b := range []byte(text) {
		utf16 = append(utf16, b, 0)
	}
	for name, raw := range map[string]string{"a mark and CRLF": "\xef\xbb\xbf" + text, "UTF-16": string(utf16)} {
		command, err := parseTrain(t, "lora", "--recipe", writeRecipe(t, raw), "--pretrained_model_name_or_path", "m",
			"--train_data_dir", "d", "--output_dir", "o")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f := command.Selected().Target.Addr().Interface().(trainer).flags().Options; f.Seed != 7 ||
			f.MaxTrainSteps != 3 {
			t.Errorf("%s: seed %d, %d steps", name, f.Seed, f.MaxTrainSteps)
		}
	}
	_, err := parseTrain(t, "lora", "--recipe", writeRecipe(t, "seed: 7\n# caf\xe9\n"))
	if err == nil || !strings.Contains(err.Error(), "recipe.yaml: line 2, byte 6: byte 0xe9 is not UTF-8") {
		t.Errorf("Latin-1: %v", err)
	}
}
