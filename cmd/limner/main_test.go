package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
	"limner/internal/refusal"
	"limner/train"
	"limner/xla"
)

// The test binary is the command itself when this variable is set.
const asCommand = "LIMNER_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(runTests(m))
}

// compiled is the folder of programs that the commands of these tests share.
var compiled string

func runTests(m *testing.M) int {
	var err error
	if compiled, err = os.MkdirTemp("", "limner-executables-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(compiled)
	return m.Run()
}

// limner runs the command in a folder and returns its output and exit code.
func limner(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	command := exec.Command(os.Args[0], args...)
	command.Dir, command.Env = dir, append(os.Environ(), asCommand+"=1", "LIMNER_COMPILATION_CACHE_DIR="+compiled)
	var out, log bytes.Buffer
	command.Stdout, command.Stderr = &out, &log
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), log.String(), command.ProcessState.ExitCode()
}

func TestWithDashes(t *testing.T) {
	got := withDashes([]string{"sample", "--num_images=2", "--out_put=a_b", "--prompt", "a_b", "-x_y", "--", "--a_b"})
	want := []string{"sample", "--num-images=2", "--out-put=a_b", "--prompt", "a_b", "-x_y", "--", "--a_b"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// help and --version are what people try first.
func TestHelpAndVersion(t *testing.T) {
	for _, c := range [][2][]string{
		{{"--version"}, {"version"}},
		{nil, {"--help"}},
		{{"help"}, {"--help"}},
		{{"help", "train", "lora"}, {"train", "lora", "--help"}},
	} {
		got, _, code := limner(t, t.TempDir(), c[0]...)
		want, _, _ := limner(t, t.TempDir(), c[1]...)
		if code != 0 || got != want || want == "" {
			t.Errorf("limner %v: exit code %d\n%s\nwant what limner %v prints:\n%s", c[0], code, got, c[1], want)
		}
	}
	if _, stderr, code := limner(t, t.TempDir(), "help", "paint"); code != 2 ||
		!strings.Contains(stderr, "unexpected argument paint") {
		t.Errorf("limner help paint: exit code %d\n%s", code, stderr)
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errors.New("x"), 1}, {usageError{errors.New("x")}, 2},
		{fmt.Errorf("step: %w", train.ErrInterrupted), 75}, {refusal.Error{Err: errors.New("x")}, 78},
		{errors.Join(errors.New("x"), refusal.Error{Err: errors.New("y")}), 78},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}

// Every command shows an example, and the example parses.
func TestExamples(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`"[^"]*"|\S+`)
	for _, command := range parser.Model.Leaves(true) {
		_, example, found := strings.Cut(command.Detail, "Example:")
		if !found {
			t.Errorf("%s --help shows no example", command.FullPath())
			continue
		}
		line, _, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(example), "\\\n", ""), "\n")
		var args []string
		for _, word := range words.FindAllString(line, -1) {
			args = append(args, strings.Trim(word, `"`))
		}
		if args[0] != "limner" || !strings.HasPrefix(line, command.FullPath()) {
			t.Errorf("the example of %s is %q", command.FullPath(), line)
			continue
		}
		if _, err := parser.Parse(withDashes(args[1:])); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestBadInput(t *testing.T) {
	// A command that finds no plugin says that it installs one.
	b, err := xla.Open(t.Context(), xla.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	model := golden.Path(t, "sd15-tiny")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "full", "letter.txt"), []byte("dear"), 0o644); err != nil {
		t.Fatal(err)
	}
	mish := filepath.Join(dir, "mish")
	if err := os.CopyFS(mish, os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(mish, "unet", "config.json")
	raw, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, bytes.Replace(raw, []byte(`"silu"`), []byte(`"mish"`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	sample := func(args ...string) []string {
		return append([]string{"sample", "--model", model, "--prompt", "x", "--output_dir", "out"}, args...)
	}
	train := func(recipe string, args ...string) []string {
		return append([]string{"train", recipe, "--model", model, "--train_data_dir", "full", "--output_dir", "out"},
			args...)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{
			2, "learning_rate: got -1, want above 0\n  proportion_empty_prompts: got 3, want 0 to 1\n  rank: got 0, " +
				"want 1 to 16384\n", train("lora", "--rank", "0", "--learning_rate=-1",
				"--proportion_empty_prompts", "3"),
		},
		// Before devices are opened.
		{2, "learning_rate: got -1", train("lora", "--learning_rate=-1", "--backend", "gpu")},
		{
			2, "class_data_dir: give a folder for the images of the class\n  class_prompt: say what the class is\n",
			train("dreambooth", "--instance_prompt", "x", "--with_prior_preservation"),
		},
		{
			78, "full holds something else (letter.txt)",
			train("dreambooth", "--output_dir", "full", "--instance_prompt", "x", "--with_prior_preservation",
				"--class_prompt", "y", "--class_data_dir", "out"),
		},
		{
			2, "they go with --with_prior_preservation, which was not given",
			train("lora", "--instance_prompt", "x", "--class_prompt", "y"),
		},
		{
			2, "initializer_token: 2 for 1 placeholder tokens",
			train("textual-inversion", "--placeholder_token", "<x>", "--initializer_token", "a",
				"--initializer_token", "b"),
		},
		{
			78, "full holds no dataset that is read",
			train("text-to-image", "--train_batch_size", "1", "--resolution", "64"),
		},
		{2, "unexpected argument sampel", []string{"sampel"}},
		{2, "missing flags: --out=DIR (see limner data synth circles --help)", []string{"data", "synth", "circles"}},
		{2, "count 0: want at least 1", []string{"data", "synth", "circles", "--count=0", "--out", "out"}},
		{1, "holds something else (letter.txt", []string{"data", "synth", "circles", "--out", "full"}},
		{1, "holds something else (letter.txt)", sample("--output_dir", "full")},
		{78, "no model folder at nowhere", sample("--model", "nowhere")},
		{78, `act_fn: got "mish"`, sample("--model", mish)},
		{2, "use 999", sample("--num_inference_steps", "1000")},
		{2, "--num_images 0: want 1 to 100000", sample("--num_images", "0")},
		{2, "--control_image needs --controlnet_model_name_or_path", sample("--control_image", "x.png")},
		{
			1, "x.png: no such file", sample("--controlnet", filepath.Join(model, "controlnet"),
				"--control_image", "x.png"),
		},
		{78, "height 65: want a multiple of 8 pixels: the nearest are 64 and 72", sample("--height", "65")},
		{2, `scheduler "unipcc": unknown; the nearest are unipc`, sample("--scheduler", "unipcc")},
		{2, "--mask needs --image", sample("--mask", "x.png")},
		{
			2, "2 control images for 1 ControlNets and 1 prompts",
			sample("--controlnet", "c", "--control_image", "x.png", "--control_image", "y.png"),
		},
		{2, "--xy: stepps is nothing that may change", sample("--xy", "stepps=1")},
		{2, `num_inference_steps: got "x", want a whole number`, sample("--xy", "steps=4,x")},
		{2, "--xy is given 3 settings: a sheet has two sides", sample("--xy", "steps=1", "seed=1", "--xy", "eta=0")},
		{2, "x.png: no such file", sample("--like", "x.png")},
		{78, "batch 3 does not divide over 2 devices: use 4", sample("--num_devices", "2", "--batch_size", "3")},
		{1, "1000000000 devices: want at most 1024 on a CPU", sample("--num_devices", "1000000000")},
		{1, `unknown backend "gpu"`, sample("--backend", "gpu")},
	} {
		stdout, stderr, code := limner(t, dir, c.args...)
		if code != c.code || !strings.Contains(stderr, c.want) || !strings.HasPrefix(stderr, "limner: ") ||
			stdout != "" {
			t.Errorf("limner %q: exit code %d, want %d; got %q, want %q", c.args, code, c.code, stderr, c.want)
		}
		if strings.Contains(stderr, "goroutine") {
			t.Errorf("limner %q shows a stack: %s", c.args, stderr)
		}
		if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
			t.Fatalf("limner %q left an output folder", c.args)
		}
	}
}

func TestCircles(t *testing.T) {
	dir := t.TempDir()
	args := []string{"data", "synth", "circles", "--count", "20", "--size", "16", "--output_dir", "set"}
	for range 2 { // the second time it is there
		stdout, stderr, code := limner(t, dir, args...)
		if code != 0 || stdout != "set\n" || !strings.Contains(stderr, "writing: 20 of 20") {
			t.Errorf("exit code %d, output %q, log %q", code, stdout, stderr)
		}
	}
	if found, err := filepath.Glob(filepath.Join(dir, "set", "*.parquet")); err != nil || len(found) != 1 {
		t.Errorf("files %q, %v", found, err)
	}
}
