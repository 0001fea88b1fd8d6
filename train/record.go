package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"limner/data"
	"limner/internal/refusal"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/train/folder"
)

// record is what a run is made of, resolved: recipe.json of its checkpoints and run.json of its output folder. A run
// may go on with other values of its fields as their resume tags say:
//
//	same     it may not
//	free     it may: the field has no say in the bits of the result
//	reorder  it may, but the order of the sums on the devices changes with it, and so the last bits
//
// A field without the tag has to stay the same.
type record struct {
	Options   Options        `json:"options"`
	Recipe    Recipe         `json:"recipe"`
	Networks  map[string]any `json:"networks"` // their configs, and the noise schedule's
	Objective string         `json:"objective"`
	UseEMA    bool           `json:"use_ema"`
	Rows      int            `json:"dataset_rows"`
	Dataset   string         `json:"dataset"` // its fingerprint
	data.Content
	Frozen    string `json:"frozen_weights"`
	Devices   int    `json:"num_devices" resume:"reorder"`
	PerDevice int    `json:"per_device_batch_size" resume:"free"`
	Plugin    string `json:"plugin" resume:"reorder"`
	// ByNeed says that the step did not fit the devices without gradient checkpointing: it stays so when the run goes
	// on.
	ByNeed bool `json:"gradient_checkpointing_by_need" resume:"free"`
}

// resumeRules are the resume tags of a struct's fields, by the names that flatten gives these.
func resumeRules(t reflect.Type) map[string]string {
	rules := map[string]string{}
	eachRecorded(t, "", func(name string, field reflect.StructField) { rules[name] = field.Tag.Get("resume") })
	return rules
}

// eachRecorded goes through the fields of a struct that its JSON has, those of structs in it too.
func eachRecorded(t reflect.Type, name string, visit func(name string, field reflect.StructField)) {
	for i := range t.NumField() {
		field, inner := t.Field(i), t.Field(i).Type
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case key == "-" || !field.IsExported():
		case field.Anonymous && key == "":
			eachRecorded(inner, name, visit)
		case inner.Kind() == reflect.Struct:
			eachRecorded(inner, pathOf(name, key), visit)
		default:
			visit(pathOf(name, key), field)
		}
	}
}

// The fields of data.Content.
const (
	contentName = "dataset_content"
	stampsName  = "dataset_files"
)

// interpolationName is the field of data.Reading. Records of versions without it are of runs that resized by
// unrecordedInterpolation.
const (
	interpolationName       = "image_interpolation_mode"
	unrecordedInterpolation = `"bilinear"`
)

// record resolves what the run is made of, wherever its folder and its model are and however often it was stopped.
// o.Schedule.Steps is set.
func (r *Run) record(o Options) (record, error) {
	o.OutputDir, o.ResumeFromCheckpoint = "", ""
	recipe := r.Recipe
	recipe.ModelOptions = diffusers.ModelOptions{Model: recipe.Model}
	dataset, err := r.Dataset.Fingerprint()
	if err != nil {
		return record{}, err
	}
	content, err := r.Dataset.Content()
	if err != nil {
		return record{}, err
	}
	frozen, err := fingerprint(r.Objective.FrozenTree(), r.Weights)
	if err != nil {
		return record{}, err
	}
	networks := map[string]any{}
	maps.Copy(networks, r.Networks)
	for _, c := range r.Components {
		networks[c.Name] = c.Config
	}
	return record{
		Options: o, Recipe: recipe, Networks: networks, Objective: r.Objective.Name, UseEMA: o.EMA != nil,
		Rows: r.Dataset.Len(), Dataset: dataset, Content: content, Frozen: frozen,
		Devices: r.Backend.Devices(), PerDevice: o.Batch / r.Backend.Devices(),
		Plugin: filepath.Base(r.Backend.Plugin()),
	}, nil
}

// fingerprint tells weights from others by some elements of each, without the seconds that reading all of them takes.
func fingerprint(tree nn.Tree, weights Weights) (string, error) {
	elements := map[string][]float32{}
	err := weights.Sample(tree, 4, func(spec nn.Spec, some []float32) error {
		elements[spec.Key] = some
		return nil
	})
	h := sha256.New()
	for _, spec := range tree {
		fmt.Fprintln(h, spec)
		err = errors.Join(err, binary.Write(h, binary.LittleEndian, elements[spec.Key]))
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), err
}

// compare says why a run of record now cannot go on from a checkpoint whose recipe.json is raw, and names the fields
// that change the last bits only.
func compare(raw []byte, now record) (notes []string, err error) {
	was, err := recordedFields(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder.RecordName, err)
	}
	raw, err = json.Marshal(now)
	if err != nil {
		return nil, err
	}
	is, err := flatten(raw)
	if err != nil {
		return nil, err
	}
	if !now.Options.Schedule.DependsOnSteps() {
		delete(was, "num_training_steps")
		delete(is, "num_training_steps")
	}
	if was["use_ema"] != is["use_ema"] {
		for _, fields := range []map[string]string{was, is} {
			maps.DeleteFunc(fields, func(name, _ string) bool {
				return name == "ema" || strings.HasPrefix(name, "ema.")
			})
		}
	}
	rules := resumeRules(reflect.TypeFor[record]())
	var errs []error
	both := maps.Clone(was)
	maps.Copy(both, is)
	for _, name := range slices.Sorted(maps.Keys(both)) {
		if same(was[name], is[name]) || rules[name] == "free" {
			continue
		}
		line := fmt.Sprintf("%s: checkpoint has %s, the run has %s", name, orNothing(was[name]), orNothing(is[name]))
		switch {
		case name == contentName && was[name] == "":
			notes = append(notes, "the checkpoint is of a version that did not look into pictures: "+
				"those of the dataset are taken to be the same")
			continue
		case name == stampsName:
			if was[name] != "" && is[contentName] == was[contentName] {
				notes = append(notes, "files of the dataset were copied or written since: "+
					"samples of them are the same, not every byte was compared")
			}
			continue
		}
		if rules[name] == "reorder" {
			notes = append(notes,
				line+": sums come in another order, so from here on the last bits differ from those of "+
					"a run that was not changed")
			continue
		}
		if name == "num_training_steps" {
			line += " (max_train_steps; " + now.Options.Schedule.Name + " depends on it)"
		}
		if name == contentName {
			line += " (pictures or rows were replaced by others of the same sizes)"
		}
		errs = append(errs, errors.New(line))
	}
	if len(errs) > 0 {
		return nil, refusal.Errorf("the run is not the one that it would go on with:\n%w\n"+
			"set them back to go on, or start anew with another --output_dir", errors.Join(errs...))
	}
	return notes, nil
}

// same also holds of a field that one of them does not have, as versions differ, and that says nothing in the other.
func same(was, is string) bool {
	empty := []string{"", "null", "false", "0", `""`, "[]"}
	return was == is || was == "" && slices.Contains(empty, is) || is == "" && slices.Contains(empty, was)
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// recordedFields are those of a record, which may be of a version that had fewer.
func recordedFields(raw []byte) (map[string]string, error) {
	fields, err := flatten(raw)
	if _, ok := fields[interpolationName]; !ok && err == nil {
		fields[interpolationName] = unrecordedInterpolation
	}
	return fields, err
}

// flatten gives the JSON of every field by its name, which within options and recipe is the flag's.
func flatten(raw []byte) (map[string]string, error) {
	fields := map[string]string{}
	var walk func(name string, raw json.RawMessage) error
	walk = func(name string, raw json.RawMessage) error {
		if len(raw) == 0 || raw[0] != '{' {
			compact, err := json.Marshal(json.RawMessage(raw))
			fields[name] = string(compact)
			return err
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			return err
		}
		for key, value := range object {
			if err := walk(pathOf(name, key), value); err != nil {
				return err
			}
		}
		return nil
	}
	return fields, walk("", raw)
}

// pathOf is the name of a field in an object of that name: within options and recipe it is the flag's.
func pathOf(object, key string) string {
	switch object {
	case "", "options", "recipe", "schedule", "optimizer", "lora", "prior", "loss":
		return key
	}
	return object + "." + key
}
