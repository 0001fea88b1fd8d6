package data

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Split is the part of a data set that a file belongs to.
type Split string

// The splits that names tell of; other files belong to none.
const (
	SplitTrain      Split = "train"
	SplitValidation Split = "validation"
	SplitTest       Split = "test"
)

// splitWords are the words by which the datasets library tells splits.
var splitWords = map[string]Split{
	"train": SplitTrain, "training": SplitTrain,
	"validation": SplitValidation, "valid": SplitValidation, "val": SplitValidation, "dev": SplitValidation,
	"test": SplitTest, "testing": SplitTest, "eval": SplitTest, "evaluation": SplitTest,
}

// splitOf is the split that a path within a data set names, by the datasets library's rule: one of its words stands
// alone between the path's separators, hyphens, underscores, dots, spaces and digits. The file's own name comes before
// the folders', inner ones before outer ones. "" is no split.
func splitOf(path string) Split {
	parts := strings.Split(strings.ToLower(filepath.ToSlash(path)), "/")
	for _, part := range slices.Backward(parts) {
		words := strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune("-._ 0123456789", r) })
		for _, word := range words {
			if split, ok := splitWords[word]; ok {
				return split
			}
		}
	}
	return ""
}

// pickSplit chooses among a folder's files, which are given relative to it, those of one split: train or, for held-out
// rows, validation, else test. Where no file names a split all are taken. It fails where names do not say which files
// are meant.
func pickSplit(dir string, files []string, heldOut bool) (chosen []string, split Split, err error) {
	by := map[Split][]string{}
	for _, file := range files {
		split := splitOf(file)
		by[split] = append(by[split], file)
	}
	wanted := []Split{SplitTrain}
	if heldOut {
		wanted = []Split{SplitValidation, SplitTest}
	}
	for _, split := range wanted {
		if len(by[split]) > 0 {
			return by[split], split, nil
		}
	}
	rest := slices.Sorted(maps.Keys(by))
	switch {
	case len(rest) == 1 && (rest[0] == "" || heldOut):
		return by[rest[0]], rest[0], nil // whether training reads the same rows is seen by their files
	case len(rest) == 1:
		return nil, "", fmt.Errorf("%s holds the split %s alone (%s): to train on it, name its files",
			dir, rest[0], someNames(files))
	}
	return nil, "", fmt.Errorf("%s does not say which of its files are meant: %s; name the files",
		dir, describeSplits(by))
}

// describeSplits lists files by their splits.
func describeSplits(by map[Split][]string) string {
	var parts []string
	for _, split := range slices.Sorted(maps.Keys(by)) {
		name := "no split"
		if split != "" {
			name = "the split " + string(split)
		}
		parts = append(parts, fmt.Sprintf("%s of %s", someNames(by[split]), name))
	}
	return strings.Join(parts, ", ")
}

// someNames names the first of many.
func someNames(names []string) string {
	const shown = 3
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), more)
	}
	return strings.Join(names, ", ")
}
