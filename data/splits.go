package data

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Split is the part of a dataset that a file belongs to.
type Split string

// The splits that file names can name; other files belong to none.
const (
	SplitTrain      Split = "train"
	SplitValidation Split = "validation"
	SplitTest       Split = "test"
)

// splitWords are the words by which the datasets library recognises splits.
var splitWords = map[string]Split{
	"train": SplitTrain, "training": SplitTrain,
	"validation": SplitValidation, "valid": SplitValidation, "val": SplitValidation, "dev": SplitValidation,
	"test": SplitTest, "testing": SplitTest, "eval": SplitTest, "evaluation": SplitTest,
}

// splitOf is the split that a path within a dataset names, by the datasets library's rule: one of its words stands
// between two of the path's separators, hyphens, underscores, dots, spaces and digits. The file's own name comes before
// the folders', inner ones before outer ones. "" means no split.
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

// pickSplit chooses the files of one split among a folder's, given relative to it: train or, for held-out rows,
// validation, else test. If no file names a split it chooses all. It fails if the names do not determine the files.
func pickSplit(dir string, files []string, heldOut bool) (chosen []string, split Split, err error) {
	bySplit := map[Split][]string{}
	for _, file := range files {
		split := splitOf(file)
		bySplit[split] = append(bySplit[split], file)
	}
	wanted := []Split{SplitTrain}
	if heldOut {
		wanted = []Split{SplitValidation, SplitTest}
	}
	for _, split := range wanted {
		if len(bySplit[split]) > 0 {
			return bySplit[split], split, nil
		}
	}
	rest := slices.Sorted(maps.Keys(bySplit))
	switch {
	case len(rest) == 1 && (rest[0] == "" || heldOut):
		return bySplit[rest[0]], rest[0], nil // Dataset.Shares finds out whether training reads the same files
	case len(rest) == 1:
		return nil, "", fmt.Errorf("%s holds the split %s alone (%s): to train on it, name its files",
			dir, rest[0], someNames(files))
	}
	return nil, "", fmt.Errorf("%s does not say which of its files are meant: %s; name the files",
		dir, describeSplits(bySplit))
}

// describeSplits lists files by their splits.
func describeSplits(bySplit map[Split][]string) string {
	var parts []string
	for _, split := range slices.Sorted(maps.Keys(bySplit)) {
		name := "no split"
		if split != "" {
			name = "the split " + string(split)
		}
		parts = append(parts, fmt.Sprintf("%s of %s", someNames(bySplit[split]), name))
	}
	return strings.Join(parts, ", ")
}

// someNames lists the first of many names.
func someNames(names []string) string {
	const shown = 3
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), more)
	}
	return strings.Join(names, ", ")
}
