package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"limner/internal/plaintext"
)

// Selection says which of a repo's files are wanted: of a pipeline folder its model_index.json, the
// configs, the tokenizers and one set of weights for each network; of a component folder its config
// and weights; else the one safetensors file. Pickled weights are never taken. Of a dataset: see dataset.
type Selection struct {
	// Variant, such as fp16, is taken where a component has it. Without it, full weights come before
	// fp16 and bf16 ones.
	Variant string
	// Config is the name of a dataset's configuration: where folders have it, files below them are taken.
	Config string
	// AllSplits takes a dataset's files of every split, not only those of training.
	AllSplits bool
}

// choose selects among a repo's files; index is the content of a model's model_index.json, if there is one.
func (s Selection) choose(files []file, ref Ref, index []byte) (choice, error) {
	if ref.Dataset {
		return chooseDataset(files, ref.Path, s)
	}
	return choose(files, ref.Path, index, s)
}

// components are the parts of a pipeline that are taken if model_index.json names them.
var components = []string{
	"unet", "controlnet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler",
}

// tokenizerFiles are taken where they are; the first two must be.
var tokenizerFiles = []string{
	"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
	"added_tokens.json", "tokenizer.json",
}

var pickled = []string{".bin", ".ckpt", ".pt", ".pth"}

// loraFile is what diffusers calls the weights of a LoRA.
const loraFile = "pytorch_lora_weights.safetensors"

// What PEFT calls the weights of a LoRA, and the file beside them that has its alphas.
const (
	peftFile   = "adapter_model.safetensors"
	peftConfig = "adapter_config.json"
)

var variantPattern = regexp.MustCompile(`^[0-9A-Za-z_]{0,32}$`)

// choice is what is wanted of a repo.
type choice struct {
	files   []file
	path    string   // of what the ref means: a folder, a file, or empty for the whole
	missing []string // paths that should be there
	pickled []string // weights that are there in place of missing ones
}

// explain turns what a repo on the Hub lacks into an error.
func (c choice) explain(ref Ref) error {
	if len(c.pickled) > 0 {
		return fmt.Errorf("%s has only pickled weights (%s), which are never loaded because they can run code: "+
			"take a repo or a revision that has .safetensors, or convert the whole model once "+
			"with Python's diffusers: "+
			"DiffusionPipeline.from_pretrained(%q, use_safetensors=False).save_pretrained(OUT, "+
			"safe_serialization=True)",
			ref, few(c.pickled), ref.Repo)
	}
	if len(c.missing) > 0 {
		return fmt.Errorf("%s lacks what its layout needs: %s", ref, few(c.missing))
	}
	return nil
}

// choose selects among a model's files; index is the content of model_index.json, if there is one.
func choose(files []file, at string, index []byte, s Selection) (choice, error) {
	if !variantPattern.MatchString(s.Variant) {
		return choice{}, fmt.Errorf("variant %q: want one such as fp16", s.Variant)
	}
	l := layout{variant: s.Variant, files: map[string]file{}}
	for _, f := range files {
		l.files[f.path] = f
	}
	var err error
	switch {
	case at != "":
		err = l.at(at)
	case index != nil:
		err = l.pipeline(index)
	default:
		err = l.root()
	}
	if err != nil {
		return choice{}, err
	}
	if s.Variant != "" && len(l.taken) > 0 && !slices.Contains(l.taken, s.Variant) && len(l.missing) == 0 {
		return choice{}, fmt.Errorf("no %s weights: leave the variant out to take what there is", s.Variant)
	}
	return l.choice, nil
}

// layout collects a choice.
type layout struct {
	choice
	variant string
	files   map[string]file
	taken   []string // the variants of the weights taken
}

// take takes a file if it is there.
func (l *layout) take(name string) bool {
	f, ok := l.files[name]
	if ok {
		l.choice.files = append(l.choice.files, f)
	}
	return ok
}

// need takes a file that must be there.
func (l *layout) need(name string) {
	if !l.take(name) {
		l.missing = append(l.missing, name)
	}
}

// names lists the files of a folder in order, without those of folders in it.
func (l *layout) names(dir string) []string {
	var names []string
	for name := range l.files {
		if path.Dir(name) == path.Clean(dir) {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names
}

// pipeline takes what model_index.json names.
func (l *layout) pipeline(index []byte) error {
	var entries map[string]json.RawMessage
	index, err := plaintext.Decode(index)
	if err == nil {
		err = plaintext.JSON(index, &entries)
	}
	if err != nil {
		return fmt.Errorf("model_index.json: %w", err)
	}
	named := func(component string) bool {
		var class []*string // library and class; null where a pipeline goes without
		err := json.Unmarshal(entries[component], &class)
		return err == nil && len(class) == 2 && class[1] != nil
	}
	if !named("unet") {
		return fmt.Errorf("model_index.json names no unet (_class_name %s): want a Stable Diffusion pipeline",
			orNone(entries["_class_name"]))
	}
	l.need("model_index.json")
	for _, c := range components {
		switch {
		case !named(c):
		case c == "scheduler":
			l.need("scheduler/scheduler_config.json")
		case strings.HasPrefix(c, "tokenizer"):
			for i, name := range tokenizerFiles {
				if !l.take(c+"/"+name) && i < 2 {
					l.missing = append(l.missing, c+"/"+name)
				}
			}
		default:
			l.component(c)
		}
	}
	return nil
}

func orNone(s json.RawMessage) string {
	if len(s) == 0 || len(s) > 100 {
		return "unknown"
	}
	return string(s)
}

// component takes the config and the weights of a network.
func (l *layout) component(dir string) {
	l.need(path.Join(dir, "config.json"))
	sets := l.weights(dir)
	for _, set := range sets {
		if l.whole(dir, set) {
			l.takeSet(dir, set)
			return
		}
	}
	if len(sets) > 0 {
		l.takeSet(dir, sets[0])
		return
	}
	names := l.names(dir)
	for _, name := range names {
		if slices.Contains(pickled, path.Ext(name)) {
			l.pickled = append(l.pickled, path.Join(dir, name))
		}
	}
	l.missing = append(l.missing, path.Join(dir, bases(dir)[0]+".safetensors"))
}

// at takes a file, or the component in a folder.
func (l *layout) at(name string) error {
	l.path = name
	if names := l.names(name); len(names) > 0 {
		for _, lora := range []string{loraFile, peftFile} {
			if slices.Contains(names, lora) && !slices.Contains(names, "config.json") {
				l.single(path.Join(name, lora))
				return nil
			}
		}
		l.component(name)
		return nil
	}
	if slices.Contains(pickled, path.Ext(name)) {
		return fmt.Errorf("%s is pickled, and never loaded because it can run code: "+
			"take the .safetensors file of the same model", name)
	}
	l.single(name)
	return nil
}

// single takes one file of weights and, of PEFT's LoRAs, the config beside it.
func (l *layout) single(name string) {
	l.path = name
	l.need(name)
	if path.Base(name) == peftFile {
		l.take(path.Join(path.Dir(name), peftConfig))
	}
}

// root takes a component at the root, or else the only weights.
func (l *layout) root() error {
	_, config := l.files["config.json"]
	if config && len(l.weights(".")) > 0 {
		l.component(".")
		return nil
	}
	var weights, bad []string
	for _, name := range l.names(".") {
		switch ext := path.Ext(name); {
		case ext == ".safetensors":
			weights = append(weights, name)
		case slices.Contains(pickled, ext):
			bad = append(bad, name)
		}
	}
	if slices.Contains(weights, loraFile) {
		weights = []string{loraFile}
	}
	switch {
	case len(weights) == 1:
		l.single(weights[0])
	case len(weights) > 1:
		return fmt.Errorf("has %d weights files: name one of them behind the repo's name, as in org/name/%s: %s",
			len(weights), weights[0], few(weights))
	case len(bad) > 0:
		l.pickled, l.missing = bad, []string{"model_index.json"}
	default:
		return errors.New("has no model_index.json and no .safetensors file at its root: " +
			"want a pipeline, a component such as a ControlNet, or a weights file: " +
			"a folder in it is named as in org/name/folder")
	}
	return nil
}
