package folder

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"limner/internal/plaintext"
	"limner/internal/refusal"
	"limner/internal/settings"
)

// Record is what a run is made of, resolved: recipe.json of its checkpoints and run.json of its output folder. A run
// may be resumed with other values of its fields, and of those of Options and Recipe, as their resume tags say:
//
//	same     it may not
//	free     it may: the field does not change the bits of the result
//	reorder  it may, but the order of the sums on the devices changes with it, and so the last bits
//
// A field without the tag has to stay the same.
type Record struct {
	Options   any            `json:"options"`  // a struct of settings
	Recipe    any            `json:"recipe"`   // a struct of settings
	Networks  map[string]any `json:"networks"` // their configs, and the noise schedule's
	Objective string         `json:"objective"`
	UseEMA    bool           `json:"use_ema"`
	Rows      int            `json:"dataset_rows"`
	Dataset   string         `json:"dataset"`         // its fingerprint
	Content   string         `json:"dataset_content"` // a hash of what the rows hold, of a large dataset in samples
	// Stamps changes with edits that Content may have missed, and with copies; "" if Content covers all bytes.
	Stamps    string `json:"dataset_files"`
	Frozen    string `json:"frozen_weights"`
	Devices   int    `json:"num_devices" resume:"reorder"`
	PerDevice int    `json:"per_device_batch_size" resume:"free"`
	Plugin    string `json:"plugin" resume:"reorder"`
	// ByNeed is true if the step did not fit the devices without gradient checkpointing: a resumed run keeps it.
	ByNeed bool `json:"gradient_checkpointing_by_need" resume:"free"`

	// LRScheduler is the learning rate schedule if it depends on the number of steps; "" lets a run be resumed with
	// another number.
	LRScheduler string `json:"-"`
}

// Names of fields whose differences Compare explains.
const (
	contentName = "dataset_content"
	stampsName  = "dataset_files"
	stepsName   = "num_training_steps"
)

// Records of versions without the setting of that name are of runs that resized images by unrecordedInterpolation.
const (
	interpolationName       = "image_interpolation_mode"
	unrecordedInterpolation = `"bilinear"`
)

// resumeRules are the resume tags of a record's fields and those of its settings, by the names that flatten gives
// these.
func (r Record) resumeRules() map[string]string {
	rules := map[string]string{}
	for _, s := range []any{r, r.Options, r.Recipe} {
		settings.EachRecorded(reflect.TypeOf(s), func(keys []string, field reflect.StructField) {
			name := ""
			for _, key := range keys {
				name = fieldName(name, key)
			}
			rules[name] = field.Tag.Get("resume")
		})
	}
	return rules
}

// Compare reads the record of the checkpoint in dir, which a run of record now is to be resumed from. It fails with
// every difference that forbids that, and notes those that change the last bits only. The Options and Recipe of the
// record that it returns are maps, as JSON gives them.
func Compare(dir string, now Record) (was Record, notes []string, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, RecordName))
	if err != nil {
		return was, nil, err
	}
	if notes, err = compare(raw, now); err != nil {
		return was, nil, err
	}
	if err := plaintext.JSON(raw, &was); err != nil {
		return was, nil, fmt.Errorf("%s: %w", RecordName, err)
	}
	return was, notes, nil
}

func compare(raw []byte, now Record) (notes []string, err error) {
	was, err := recordedFields(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", RecordName, err)
	}
	raw, err = json.Marshal(now)
	if err != nil {
		return nil, err
	}
	is, err := flatten(raw)
	if err != nil {
		return nil, err
	}
	if now.LRScheduler == "" {
		delete(was, stepsName)
		delete(is, stepsName)
	}
	if was["use_ema"] != is["use_ema"] {
		for _, fields := range []map[string]string{was, is} {
			maps.DeleteFunc(fields, func(name, _ string) bool {
				return name == "ema" || strings.HasPrefix(name, "ema.")
			})
		}
	}
	rules := now.resumeRules()
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
		if name == stepsName {
			line += " (max_train_steps; " + now.LRScheduler + " depends on it)"
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

// same reports whether two values of a field are equal. A field that one record lacks, as versions differ, equals an
// empty value in the other.
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

// Setting reads one setting of the record of the checkpoint in dir, by its flag's name, into what value points to.
func Setting(dir, name string, value any) error {
	raw, err := os.ReadFile(filepath.Join(dir, RecordName))
	if err != nil {
		return err
	}
	fields, err := recordedFields(raw)
	if err == nil {
		err = plaintext.JSON([]byte(fields[name]), value)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", RecordName, name, err)
	}
	return nil
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
			if err := walk(fieldName(name, key), value); err != nil {
				return err
			}
		}
		return nil
	}
	return fields, walk("", raw)
}

// fieldName is the name of a field in an object of that name: within options and recipe it is the flag's.
func fieldName(object, key string) string {
	switch object {
	case "", "options", "recipe", "schedule", "optimizer", "lora", "prior", "loss":
		return key
	}
	return object + "." + key
}
