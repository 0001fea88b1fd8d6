package main

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"limner/internal/suggest"
)

// What is said of several flags.
const (
	theCheckpoint = "safetensors and Flax weights are told apart by their files"
	theCompiler   = "XLA compiles the whole step and chooses its own kernels"
)

// passedFlag is a flag of diffusers' training scripts that has no say in the result here.
type passedFlag struct {
	value bool // a value follows it
	why   string
}

// passedFlags may stand on the command line of a training, which says that they are left out.
var passedFlags = map[string]passedFlag{
	"from-pt": {why: theCheckpoint}, "from-flax": {why: theCheckpoint}, "controlnet-from-pt": {why: theCheckpoint},
	"allow-tf32": {why: theCompiler},
	"enable-xformers-memory-efficient-attention": {why: theCompiler},
	"enable-npu-flash-attention":                 {why: theCompiler},
	"set-grads-to-none":                          {why: "gradients live only within the step"},
	"load-from-disk":                             {why: "how a dataset is laid out is told by its files"},
	"streaming":                                  {why: "rows are read as they are needed"},
	"preprocessing-num-workers":                  {true, "images are prepared while training goes on"},
	"local-rank":                                 {true, "one process drives all devices, see --num_devices"},
	"logging-steps":                              {true, "every step is in metrics.jsonl"},
	"profile-memory":                             {why: "limner doctor names the devices' memory"},
	"ccache":                                     {true, "compiled programs are kept, see --compilation_cache_dir"},
	"hub-token":                                  {true, "nothing is uploaded; the command for that reads HF_TOKEN"},
}

// foreignFlags are flags of diffusers' and kohya's training scripts that would have a say and have none here, with what
// to do instead. No command has one.
var foreignFlags = map[string]string{
	"non-ema-revision":                  "give the revision to train from as --model org/name@revision",
	"controlnet-revision":               "give --controlnet_model_name_or_path org/name@revision",
	"tokenizer-name":                    "the tokenizer is the model's: give a model folder that holds the other one",
	"tokenizer-max-length":              "captions are cut after the tokenizer's model_max_length",
	"pretrained-vae-model-name-or-path": "give a model folder whose vae/ is the one to train with",
	"instance-data-root":                "give --instance_data_dir",
	"prior-generation-precision":        "leave it out: class images are drawn in the precision of --mixed_precision",
	"pre-compute-text-embeddings":       "leave it out: text is encoded on the devices, which costs next to nothing",
	"text-encoder-use-attention-mask":   "leave it out: the models that need it are not supported",
	"skip-save-text-encoder": "leave it out: the frozen text encoder is copied beside the UNet, " +
		"so that the folder is a whole model",
	"class-labels-conditioning": "leave it out: the models that need it are not supported",
	"save-as-full-pipeline":     "leave it out: limner sample --textual_inversion adds the token to any model",
	"no-safe-serialization":     "leave it out: weights are written as safetensors, which hold no code",
	"offset-noise":              "give --noise_offset 0.1",
	"shuffle-caption":           "give --shuffle_tags",
	"caption-dropout-rate":      "give --proportion_empty_prompts",
	"optimizer-type":            "give --optimizer",
	"use-dora":                  "leave it out: a LoRA of plain matrices is trained",
	"save-steps":                "give --checkpointing_steps",
	"lora-rank":                 "give --rank",
	"kohya-format":              "give --lora_format kohya",
	"output-kohya-format":       "give --lora_format both",
}

// severalValues are flags that diffusers' scripts take several values of, one behind another.
var severalValues = []string{"validation-image", "validation-prompt", "validation-prompts"}

// script is a training script of diffusers.
type script struct {
	recipe   string
	defaults []string // flags, where its defaults are not those of limner train
}

// scripts are those whose whole command line may be given.
var scripts = map[string]script{
	"train_controlnet.py":      {recipe: "controlnet"},
	"train_controlnet_sdxl.py": {recipe: "controlnet"},
	"train_controlnet_flax.py": {recipe: "controlnet", defaults: []string{
		"--train-batch-size=1", "--num-train-epochs=100", "--learning-rate=1e-4", "--checkpointing-steps=5000",
		"--report-to=wandb",
	}},
}

// likeScripts are recipes whose scripts' defaults are others, by the scripts' names without their families.
var likeScripts = map[string]string{
	"train_text_to_image": "text-to-image", "train_text_to_image_lora": "lora", "train_dreambooth": "dreambooth",
	"train_dreambooth_lora": "lora", "textual_inversion": "textual-inversion",
}

// fromScript turns the command line of a training script, with or without what launches it, into that of limner train.
// notes are what a person should know of it.
func fromScript(args []string) (out, notes []string, err error) {
	if len(args) == 0 {
		return args, nil, nil
	}
	at := slices.IndexFunc(args, func(arg string) bool { return path.Ext(arg) == ".py" })
	launcher := slices.Contains([]string{"accelerate", "python", "python3"}, args[0])
	switch {
	case at != 0 && !launcher:
		return args, nil, nil
	case at < 0:
		return nil, nil, usageError{fmt.Errorf("%s: no training script behind it: "+
			"want one such as train_controlnet.py, or limner train controlnet and its flags", args[0])}
	}
	name, rest := path.Base(args[at]), args[at+1:]
	s, ok := scripts[name]
	if !ok {
		stem := strings.TrimSuffix(name, ".py")
		for _, family := range []string{"_flax", "_sdxl"} {
			stem = strings.TrimSuffix(stem, family)
		}
		if recipe := likeScripts[stem]; recipe != "" {
			return nil, nil, usageError{fmt.Errorf("%s: its defaults are others: give limner train %s and "+
				"the flags behind the script; limner train %[2]s --help says what holds without them", name, recipe)}
		}
		return nil, nil, usageError{fmt.Errorf("%s: limner trains what limner train --help lists", name)}
	}
	out = append([]string{"train", s.recipe}, s.defaults...)
	if len(s.defaults) > 0 {
		notes = append(notes, fmt.Sprintf("%s: its defaults are taken: %s",
			name, underscored(strings.Join(s.defaults, " "))))
	}
	if launch := args[min(1, at):at]; launcher && len(launch) > 1 {
		if precision := precisionOf(launch); precision != "" {
			out = append(out, "--mixed-precision="+precision)
		}
		notes = append(notes, "left out what launches the script, but for its precision: "+
			"one process drives all devices, see --num_devices")
	}
	return append(out, rest...), notes, nil
}

// precisionOf is the --mixed_precision among the flags of accelerate launch.
func precisionOf(args []string) string {
	for i, arg := range args {
		name, value, found := strings.Cut(strings.ReplaceAll(arg, "_", "-"), "=")
		switch {
		case name != "--mixed-precision":
		case found:
			return value
		case i+1 < len(args):
			return args[i+1]
		}
	}
	return ""
}

// isTraining says whether the arguments are those of a training, or of its plan.
func isTraining(args []string) bool {
	return len(args) > 0 && (args[0] == "train" || args[0] == "plan")
}

// withoutPassed leaves passedFlags out of the arguments of a training and says so.
func withoutPassed(args []string) (out, notes []string) {
	passed := map[string][]string{} // flags by what is said of them
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			out = append(out, args[i:]...)
			break
		}
		name, _, found := strings.Cut(strings.TrimPrefix(args[i], "--"), "=")
		flag, ok := passedFlags[name]
		if !ok || !strings.HasPrefix(args[i], "--") {
			out = append(out, args[i])
			continue
		}
		if flag.value && !found {
			i++ // its value
		}
		if spelled := "--" + underscored(name); !slices.Contains(passed[flag.why], spelled) {
			passed[flag.why] = append(passed[flag.why], spelled)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(passed)) {
		notes = append(notes, fmt.Sprintf("left out %s: %s", strings.Join(passed[why], ", "), why))
	}
	return out, notes
}

// withRepeats repeats a flag that has several values behind it for each of them.
func withRepeats(args []string) []string {
	var out []string
	flag, values := "", 0
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		switch {
		case strings.HasPrefix(arg, "--"):
			flag, values = "", 0
			if slices.Contains(severalValues, strings.TrimPrefix(arg, "--")) {
				flag = arg
			}
		case flag != "":
			if values++; values > 1 {
				out = append(out, flag)
			}
		}
		out = append(out, arg)
	}
	return out
}

// withTimestamp writes the time into the name of an output folder, as the Flax scripts do.
func withTimestamp(args []string, now time.Time) []string {
	out := slices.Clone(args)
	for i, arg := range out {
		if strings.HasPrefix(arg, "--output-dir=") || i > 0 && out[i-1] == "--output-dir" {
			out[i] = strings.ReplaceAll(arg, "{timestamp}", now.Format("20060102_150405"))
		}
	}
	return out
}

// translated are the arguments as the parser takes them, and what a person should know of how they were read. Command
// lines of diffusers' scripts become those of limner train.
func translated(args []string, now time.Time) (out, notes []string, err error) {
	args, notes, err = fromScript(spelledOut(args))
	if err != nil {
		return nil, nil, err
	}
	args = withDashes(args)
	if isTraining(args) {
		var more []string
		args, more = withoutPassed(args)
		args, notes = withTimestamp(withRepeats(args), now), append(notes, more...)
	}
	return args, notes, nil
}

// wrongFlags adds to an error of the parser, which knows of the first wrong flag, all that there are.
func wrongFlags(args []string, err error) error {
	var parse *kong.ParseError
	if !errors.As(err, &parse) || parse.Context == nil {
		return err
	}
	node := parse.Context.Selected()
	if node == nil {
		node = parse.Context.Model.Node
	}
	var known []string
	for _, group := range node.AllFlags(false) {
		for _, flag := range group {
			known = append(append(known, flag.Name), flag.Aliases...)
			if flag.Negated || flag.Tag.Negatable != "" {
				known = append(known, "no-"+flag.Name)
			}
		}
	}
	var errs []error
	if !strings.HasPrefix(err.Error(), "unknown flag") {
		errs = append(errs, err)
	}
	var said []string
	for _, arg := range args {
		if arg == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !strings.HasPrefix(arg, "--") || slices.Contains(known, name) || slices.Contains(said, name) {
			continue
		}
		said = append(said, name)
		if advice, ok := foreignFlags[name]; ok {
			errs = append(errs, fmt.Errorf("--%s: %s", underscored(name), advice))
		} else {
			errs = append(errs, fmt.Errorf("unknown flag --%s%s", name, meant(name, known)))
		}
	}
	if len(errs) == 0 {
		return err
	}
	return errors.Join(errs...)
}

// meant asks for the flag that a name is a slip of the pen for.
func meant(name string, known []string) string {
	best, most := "", 1+len(name)/4 // edits
	for _, flag := range known {
		if edits := suggest.Edits(name, flag); edits <= most {
			best, most = flag, edits-1
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean --%s?", best)
}
