package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/google/go-cmp/cmp"

	"limner/internal/golden"
	"limner/train/optim"
)

// tutorial are the command lines of diffusers' tutorial on ControlNets by their names, as a shell splits them: those of
// examples/controlnet/README.md and README_sdxl.md.
func tutorial(t *testing.T) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "tutorial.sh"))
	if err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{
		"MODEL_DIR": "runwayml/stable-diffusion-v1-5", "OUTPUT_DIR": "path to save model",
		"HUB_MODEL_ID": "controlnet-fill-circle",
	}
	lines := map[string][]string{}
	for block := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n\n") {
		name, line, _ := strings.Cut(block, "\n")
		for _, word := range words(strings.ReplaceAll(line, "\\\n", "")) {
			word = os.Expand(word, func(name string) string { return variables[name] })
			lines[strings.TrimPrefix(name, "# ")] = append(lines[strings.TrimPrefix(name, "# ")], word)
		}
	}
	if len(lines) != 8 {
		t.Fatalf("got %d command lines", len(lines))
	}
	return lines
}

var quotedWords = regexp.MustCompile(`(?:"[^"]*"|[^\s"])+`)

// words splits a command line as a shell does.
func words(line string) []string {
	split := quotedWords.FindAllString(line, -1)
	for i, word := range split {
		split[i] = strings.ReplaceAll(word, `"`, "")
	}
	return split
}

// parseScript reads the command line of a script as run does.
func parseScript(t *testing.T, args []string) (*kong.Context, []string, error) {
	t.Helper()
	args, notes, err := translated(args, time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	if err != nil {
		return nil, nil, err
	}
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	command, err := parser.Parse(args)
	return command, notes, err
}

// Each command line of the tutorial is read word for word, whether accelerate stands in it or limner train.
func TestTutorialCommandLines(t *testing.T) {
	type settings struct {
		output          string
		images, epochs  int
		checkpointing   int
		samples         int
		column          string
		compute         dtypes.DType
		eightBits, push bool
		wandb, project  string
		pairs           int
	}
	common := settings{
		output: "path to save model", images: 4, epochs: 1, checkpointing: 500, column: "conditioning_image",
		compute: dtypes.Float32, wandb: "tensorboard", pairs: 2,
	}
	with := func(change func(s *settings)) settings {
		s := common
		change(&s)
		return s
	}
	flax := func(s *settings) {
		s.output, s.images, s.epochs, s.checkpointing = "runs/fill-circle-20260304_050607", 2, 11, 5000
		s.wandb, s.project, s.push = "wandb", "controlnet-fill-circle", true
	}
	lines := tutorial(t)
	for name, want := range map[string]settings{
		"start": common, "accumulation": common,
		"16 GB": with(func(s *settings) { s.eightBits = true }),
		"12 GB": with(func(s *settings) { s.eightBits = true }),
		"8 GB":  with(func(s *settings) { s.compute = dtypes.BFloat16 }),
		"SDXL":  with(func(s *settings) { s.compute, s.wandb, s.push = dtypes.BFloat16, "wandb", true }),
		"Flax":  with(flax),
		"Flax, streaming": with(func(s *settings) {
			flax(s)
			s.output, s.images, s.epochs, s.push = "runs/uncanny-faces-20260304_050607", 1, 100, false
			s.samples, s.column, s.pairs = 100_000, "spiga_seg", 0
		}),
	} {
		for _, form := range []string{"script", "train"} {
			t.Run(name+" as "+form, func(t *testing.T) {
				args := slices.Clone(lines[name])
				if form == "train" { // whose defaults are those of the PyTorch script
					at := slices.IndexFunc(args, func(arg string) bool { return path.Ext(arg) == ".py" })
					args = append([]string{"train", "controlnet"}, args[at+1:]...)
					want.checkpointing = common.checkpointing
					if want.epochs == 100 {
						want.epochs = common.epochs
					}
				}
				command, _, err := parseScript(t, args)
				if err != nil {
					t.Fatal(err)
				}
				c, ok := command.Selected().Target.Interface().(trainControlNetCmd)
				if !ok {
					t.Fatalf("got %s", command.Selected().FullPath())
				}
				o, r, err := trainSettings(c, 1, false)
				if err != nil {
					t.Fatal(err)
				}
				got := settings{
					output: o.OutputDir, images: o.Batch * o.Accumulation, epochs: o.NumTrainEpochs,
					checkpointing: o.CheckpointingSteps, samples: r.MaxTrainSamples, column: r.ConditioningImageColumn,
					compute: r.Compute, eightBits: o.Optimizer.Moments == optim.Moments8Bit, push: c.PushToHub,
					wandb: c.ReportTo, project: c.TrackerProjectName, pairs: len(r.Watch.Validation.Images),
				}
				if got != want || len(r.Watch.Validation.Prompts) != got.pairs {
					t.Errorf("got %+v and %q\nwant %+v", got, r.Watch.Validation.Prompts, want)
				}
			})
		}
	}
}

func TestTranslated(t *testing.T) {
	for line, c := range map[string]struct{ want, notes, err string }{
		"sample --prompt a": {want: "sample --prompt a"},
		"accelerate launch --mixed_precision bf16 --num_processes 2 dir/train_controlnet.py --seed=1": {
			want:  "train controlnet --mixed-precision=bf16 --seed=1",
			notes: "left out what launches the script, but for its precision",
		},
		"train_controlnet_sdxl.py --seed 1": {want: "train controlnet --seed 1"},
		"python3 train_controlnet_flax.py --ccache DIR --from_pt --logging_steps=5 --seed 1": {
			want: "train controlnet --train-batch-size=1 --num-train-epochs=100 --learning-rate=1e-4 " +
				"--checkpointing-steps=5000 --report-to=wandb --seed 1",
			notes: "left out --ccache: compiled programs are kept",
		},
		"train controlnet --hub_token SECRET --allow_tf32 --enable_xformers_memory_efficient_attention": {
			want:  "train controlnet",
			notes: "left out --allow_tf32, --enable_xformers_memory_efficient_attention: XLA compiles",
		},
		"train lora --validation_prompts a b c --seed 1": {
			want: "train lora --validation-prompts a --validation-prompts b --validation-prompts c --seed 1",
		},
		"train controlnet --validation_image=a --validation_prompt a -- --validation_prompt b c": {
			want: "train controlnet --validation-image=a --validation-prompt a -- --validation_prompt b c",
		},
		"accelerate launch":                        {err: "no training script behind it"},
		"accelerate launch train_dreambooth.py":    {err: "give limner train dreambooth and the flags"},
		"python train_text_to_image_lora_sdxl.py":  {err: "give limner train lora and the flags"},
		"accelerate launch train_unconditional.py": {err: "limner trains what"},
	} {
		t.Run(line, func(t *testing.T) {
			got, notes, err := translated(words(line), time.Time{})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
			said := strings.Join(notes, "\n")
			if !strings.Contains(said, c.notes) || c.notes == "" && said != "" || strings.Contains(said, "SECRET") {
				t.Errorf("notes %q, want %q", said, c.notes)
			}
		})
	}
}

// All that is wrong with the flags is said at once.
func TestWrongFlagsAtOnce(t *testing.T) {
	_, stderr, code := limner(t, t.TempDir(), "train", "controlnet", "--tokenizer_name=t", "--learning_rat", "1e-4",
		"--no-center_crop", "--snr", "5", "--from_pt", "--rank", "4", "--offset_noise", "--rank", "4")
	want := []string{
		"--tokenizer_name: the tokenizer is the model's", "unknown flag --learning-rat, did you mean --learning-rate?",
		"unknown flag --snr", "unknown flag --rank", "--offset_noise: give --noise_offset 0.1",
	}
	for _, part := range want {
		if strings.Count(stderr, part) != 1 {
			t.Errorf("stderr does not say once %q", part)
		}
	}
	if code != exitUsage || strings.Contains(stderr, "center") || strings.Contains(stderr, "from_pt") || t.Failed() {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

func TestReporting(t *testing.T) {
	for name, c := range map[string]struct {
		f    reporting
		want string
	}{
		"tensorboard": {reporting{ReportTo: "tensorboard", TrackerProjectName: "p"}, ""},
		"wandb": {
			reporting{ReportTo: "wandb", TrackerProjectName: "my circles", WandbEntity: "team"},
			"report_to wandb: this uploads TensorBoard's events, with wandb up to 0.29.0 " +
				"(pip install \"wandb<=0.29.0\" tensorboard):\n" +
				"  wandb sync --sync-tensorboard --project 'my circles' --entity team out/run/logs\n",
		},
		"the Hub": {
			reporting{ReportTo: "none", PushToHub: true},
			"push_to_hub: this uploads the result (pip install huggingface_hub):\n" +
				"  hf upload run out/run . --exclude 'checkpoint-*'\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			c.f.tell(&got, "out/run", "logs")
			if diff := cmp.Diff(c.want, got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// standInHub serves folders as repos of the Hub, by their paths there: org/name, or datasets/org/name. Every revision
// is the same.
func standInHub(t *testing.T, repos map[string]map[string]string) string {
	t.Helper()
	const commit = "0123456789abcdef0123456789abcdef01234567"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for repo, files := range repos {
			api := "/api/models/" + repo
			if name, ok := strings.CutPrefix(repo, "datasets/"); ok {
				api = "/api/datasets/" + name
			}
			if strings.HasPrefix(r.URL.Path, api+"/revision/") {
				var siblings []map[string]string
				for name := range files {
					siblings = append(siblings, map[string]string{"rfilename": name})
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"sha": commit, "siblings": siblings})
				return
			}
			if name, ok := strings.CutPrefix(r.URL.Path, "/"+repo+"/resolve/"+commit+"/"); ok && files[name] != "" {
				h := fnv.New128a()
				fmt.Fprint(h, files[name])
				w.Header().Set("ETag", fmt.Sprintf(`"%x"`, h.Sum(nil)))
				http.ServeFile(w, r, files[name])
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// filesOf are the files below a folder by their names in it.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var name string
			name, err = filepath.Rel(dir, file)
			files[filepath.ToSlash(name)] = file
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The tutorial's command lines come to their first step, with small models and datasets behind the Hub's names. The
// flags that make it small follow them: its program is then that of docs/train.md, which is compiled once.
func TestTutorialReachesItsFirstStep(t *testing.T) {
	small := []string{
		"--resolution=64", "--train_batch_size=16", "--cache_latents",
		"--conditioning_embedding_out_channels=16,32,64,64",
	}
	parquet := golden.Path(t, "parquet", "train-00000-of-00001.parquet")
	hub := standInHub(t, map[string]map[string]string{
		"runwayml/stable-diffusion-v1-5": filesOf(t, filepath.Join(root, "demo", "base")),
		"datasets/fusing/fill50k": {
			"fill50k.py": parquet, "README.md": parquet, "data/train-00000-of-00001.parquet": parquet,
		},
	})
	for name, line := range tutorial(t) {
		if name != "start" && name != "Flax" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir, cache := t.TempDir(), t.TempDir()
			picture, err := os.ReadFile(filepath.Join(root, "docs", "outline.png"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 2 {
				file := filepath.Join(dir, fmt.Sprintf("conditioning_image_%d.png", i+1))
				if err := os.WriteFile(file, picture, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			command := exec.Command(os.Args[0], append(line, small...)...)
			command.Dir = dir
			command.Env = append(os.Environ(), asCommand+"=1", "LIMNER_COMPILATION_CACHE_DIR="+compiled,
				"HF_ENDPOINT="+hub, "HF_HUB_CACHE="+cache, "HF_HUB_OFFLINE=0")
			var log bytes.Buffer
			stopper := &stopAt{to: &log, mark: "training: 1 of", stop: func() {
				_ = command.Process.Signal(syscall.SIGTERM)
			}}
			command.Stderr = stopper
			_ = command.Run()
			if code := command.ProcessState.ExitCode(); code != exitInterrupted || !stopper.stopped {
				t.Fatalf("exit code %d, want %d behind the first step:\n%s", code, exitInterrupted, &log)
			}
			if name == "Flax" {
				found, err := filepath.Glob(filepath.Join(dir, "runs", "fill-circle-20*", "checkpoint-*"))
				if err != nil || len(found) == 0 {
					t.Errorf("no checkpoint below runs: %v", err)
				}
			}
		})
	}
}

// stopAt stops a command at the first line that begins with mark.
type stopAt struct {
	to      *bytes.Buffer
	mark    string
	stop    func()
	stopped bool
}

func (s *stopAt) Write(p []byte) (int, error) {
	s.to.Write(p)
	if !s.stopped && strings.Contains(s.to.String(), s.mark) {
		s.stopped = true
		s.stop()
	}
	return len(p), nil
}
