package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"limner/data/imaging"
)

// recordedFlags are all that an image's record may set: texts, numbers and choices that say how it was drawn. A picture comes from anywhere, so
// what is loaded, opened, written or downloaded, and on how many devices, the command line alone says.
var recordedFlags = []string{
	"prompt", "negative_prompt", "prompt_style", "truncate_prompts", "clip_skip", "height", "width", "seed", "scheduler", "num_inference_steps",
	"guidance_scale", "guidance_rescale", "eta", "strength", "preprocess", "lora_scale", "controlnet_conditioning_scale", "control_guidance_start",
	"control_guidance_end", "guess_mode", "background", "original_size", "crops_coords_top_left", "target_size", "prediction_type", "dtype",
	"enable_vae_slicing", "enable_vae_tiling", "batch_row", "batch_size",
}

// mostFiles is how many files a record may name.
const mostFiles = 100

// likeFile is an image of limner sample, whose record sets flags that the command line does not.
type likeFile string

// likeRecord is what is taken from an image's record.
type likeRecord struct {
	fields  map[string]json.RawMessage // by the names of recordedFlags
	files   []usedFile                 // that it was made with
	devices int
	left    []string // names of other flags that it would set
}

// BeforeResolve gives the flags that the command line does not set their values in the image's record, and fails where the command line does not
// name the files that the image was made with.
func (likeFile) BeforeResolve(command *kong.Context, trace *kong.Path) error {
	path := command.FlagValue(trace.Flag).(likeFile)
	record, err := path.read()
	if err != nil {
		return err
	}
	values := recordValues{}
	for _, flag := range commandFlags(command.Selected()) {
		raw, ok := record.fields[underscored(flag.Name)]
		if !ok {
			continue
		}
		value, err := recordValue(flag, raw)
		if err == nil {
			err = checkValue(flag, value)
		}
		if err != nil {
			return fmt.Errorf("like: %s: its record's %s: %w", path, underscored(flag.Name), err)
		}
		values[flag.Name] = value
	}
	command.AddResolver(values)
	if planOf(command) != nil {
		return nil // planning opens no files
	}
	return path.missing(command, record.files)
}

// recordValues are values of flags by their names, as kong's mappers take them.
type recordValues map[string]any

// Validate has nothing left to check.
func (recordValues) Validate(*kong.Application) error { return nil }

// Resolve is a flag's value; nil where the record has none.
func (v recordValues) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	return v[flag.Name], nil
}

// recordValue is what a flag's mapper takes: text or, for a flag that may be given several times, a list.
func recordValue(flag *kong.Flag, raw json.RawMessage) (any, error) {
	if !flag.IsSlice() {
		return jsonScalar(raw)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errors.New("want a list")
	}
	values := []any{}
	for _, raw := range list {
		text, err := jsonScalar(raw)
		if err != nil {
			return nil, err
		}
		value, err := listElement(flag.Target.Type().Elem().Kind(), text)
		if err != nil {
			return nil, fmt.Errorf("got %q, want numbers", text)
		}
		values = append(values, value)
	}
	return values, nil
}

// jsonScalar is a text, number or truth value as it is written.
func jsonScalar(raw json.RawMessage) (string, error) {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return "", err
	}
	switch value := value.(type) {
	case string:
		return value, nil
	case float64, bool:
		return string(raw), nil
	}
	return "", errors.New("want a plain value")
}

// read reads what may be taken from an image's record.
func (f likeFile) read() (likeRecord, error) {
	file, err := imaging.ReadFile(string(f))
	if err != nil {
		return likeRecord{}, fmt.Errorf("like: %w", err)
	}
	texts, err := imaging.Texts(file)
	if err != nil {
		return likeRecord{}, fmt.Errorf("like: %s: %w", f, err)
	}
	for _, text := range texts {
		if text.Key != imaging.TextLimner {
			continue
		}
		record, err := parseRecord([]byte(text.Value))
		if err != nil {
			return record, fmt.Errorf("like: %s: its record cannot be read: %w", f, err)
		}
		return record, nil
	}
	return likeRecord{}, fmt.Errorf("like: %s carries no record of limner sample", f)
}

// parseRecord takes from a record what may be taken. Of older versions, whose records hold paths and the SHA-256 of some files by path, too.
func parseRecord(raw []byte) (likeRecord, error) {
	var whole struct {
		Files  []usedFile                 `json:"files"`
		Inputs map[string]string          `json:"inputs"` // of older versions
		Sample map[string]json.RawMessage `json:"sample"`
	}
	if err := json.Unmarshal(raw, &whole); err != nil {
		return likeRecord{}, err
	}
	r := likeRecord{fields: map[string]json.RawMessage{}}
	for _, name := range slices.Sorted(maps.Keys(whole.Sample)) {
		value := whole.Sample[name]
		switch {
		case string(value) == "null":
		case slices.Contains(recordedFlags, name):
			r.fields[name] = value
		case name == "num_devices":
			if err := json.Unmarshal(value, &r.devices); err != nil {
				return r, err
			}
		case slices.Contains(fileFlags, name), name == "revision":
		default:
			r.left = append(r.left, name)
		}
	}
	r.files = whole.Files
	if r.files == nil {
		r.files = olderFiles(whole.Sample, whole.Inputs)
	}
	if n := len(r.files); n > mostFiles {
		return r, fmt.Errorf("it names %d files, more than the limit of %d", n, mostFiles)
	}
	r.files = slices.DeleteFunc(r.files, func(u usedFile) bool { return !slices.Contains(fileFlags, u.Flag) })
	return r, nil
}

// olderFiles are the files of a record that has them as flags.
func olderFiles(flags map[string]json.RawMessage, sums map[string]string) []usedFile {
	var files []usedFile
	for _, flag := range fileFlags {
		var one string
		var all []string
		if json.Unmarshal(flags[flag], &one) == nil && one != "" {
			all = []string{one}
		} else if json.Unmarshal(flags[flag], &all) != nil {
			continue
		}
		for _, value := range all {
			files = append(files, usedFile{Flag: flag, Name: value, SHA256: sums[value]})
		}
	}
	return files
}

// missing fails where the command line lacks files that the image was made with, and prints the command that names them.
func (f likeFile) missing(command *kong.Context, files []usedFile) error {
	given := map[string]bool{}
	for _, step := range command.Path {
		if step.Flag != nil && !step.Resolved {
			given[underscored(step.Flag.Name)] = true
		}
	}
	words := slices.Concat([]string{"limner"}, command.Args)
	complete := true
	for _, file := range files {
		if given[file.Flag] {
			continue
		}
		complete = false
		words = append(words, "--"+file.Flag, placeholder(file))
	}
	if complete {
		return nil
	}
	for i, word := range words {
		words[i] = shellWord(word)
	}
	return fmt.Errorf("like: a picture does not choose what is opened: give the files that %s was made with, PATH being where each lies here:\n%s\n",
		f, strings.Join(words, " "))
}

// placeholder stands for a file in a command that is printed. A name on the Hub stands for itself.
func placeholder(file usedFile) string {
	switch file.Flag {
	case variantFlag:
		return file.Name
	case inversionFlag:
		if token, path, ok := strings.Cut(file.Name, "="); ok {
			return token + "=PATH/" + lastPart(path)
		}
	case modelFlag, controlNetFlag, loraFlag:
		if isHubName(file.Name) {
			return file.Name
		}
	}
	return "PATH/" + lastPart(file.Name)
}

// compare fails where the images to draw are not made of the files of the image that they are to be like, and says what is left out of its record.
func (c *sampleCmd) compare(model loadedModel, work []*job) error {
	if c.Like == "" {
		return nil
	}
	was, err := c.Like.read()
	if err != nil {
		return err
	}
	if len(was.left) > 0 {
		fmt.Fprintf(os.Stderr, "%s: its record has flags that none may set, which are left out: %q\n", c.Like, was.left)
	}
	if slices.ContainsFunc(was.files, func(u usedFile) bool { return u.SHA256 == "" && u.Flag == modelFlag }) {
		fmt.Fprintf(os.Stderr, "%s is of a version that recorded no SHA-256 of models: they are not compared\n", c.Like)
	}
	var errs []error
	for _, j := range work {
		if err := compareFiles(was.files, slices.Concat(model.files, j.files)); err != nil {
			errs = append(errs, configError{fmt.Errorf("like: %s: %w\ngive what it was made with, or leave --like out and give the settings that limner show prints", c.Like, err)})
		}
	}
	return joinDistinct(errs)
}

// compareDevices says that the number of devices is another, with which the last bits may be.
func (c *sampleCmd) compareDevices(devices int) {
	if c.Like == "" {
		return
	}
	if was, err := c.Like.read(); err == nil && was.devices > 0 && was.devices != devices {
		fmt.Fprintf(os.Stderr, "%s was drawn on %d devices, this is on %d: the last bits may differ, --num_devices %d repeats it\n", c.Like, was.devices, devices, was.devices)
	}
}

// shellWord quotes a word for a shell, if it needs it.
func shellWord(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./=,:@+%", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
