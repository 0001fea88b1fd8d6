package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"limner/sample/batch"
)

// BeforeResolve gives the flags that the command line does not set their values in the image's record, and fails where
// the command line does not name the files that the image was made with.
func (sampleCmd) BeforeResolve(command *kong.Context) error {
	i := slices.IndexFunc(command.Path, func(step *kong.Path) bool {
		return step.Flag != nil && step.Flag.Name == "like"
	})
	if i < 0 {
		return nil
	}
	path := command.FlagValue(command.Path[i].Flag).(string)
	record, err := batch.ReadRecord(path)
	if err != nil {
		return err
	}
	values := recordValues{}
	for _, flag := range commandFlags(command.Selected()) {
		raw, ok := record.Settings[underscored(flag.Name)]
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
	return missingFiles(command, path, record.Files)
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
			return nil, err
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

// missingFiles fails where the command line lacks files that the image was made with, and prints the command that names
// them.
func missingFiles(command *kong.Context, image string, files []batch.UsedFile) error {
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
		words = append(words, "--"+file.Flag, file.Placeholder())
	}
	if complete {
		return nil
	}
	for i, word := range words {
		words[i] = shellWord(word)
	}
	return fmt.Errorf("like: a picture does not choose what is opened: give the files that %s was made with, "+
		"PATH being where each lies here:\n%s\nor leave --like out and give the settings that limner show prints",
		image, strings.Join(words, " "))
}

// shellWord quotes a word for a shell, if it needs it.
func shellWord(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("-_./=,:@+%", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
