package data

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
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

// numbered is what the names of a split's files have after its name: train-00000-of-00002, train_0, train-1.
var numbered = regexp.MustCompile(`[-_]?[0-9]+(-of-[0-9]+)?$`)

// belongsTo says whether a path within a dataset is of the split that is asked for, by one of the usual names or any
// other: that of the file, without the numbers at its end, or of a folder.
func belongsTo(path, split string) bool {
	if usual := splitWords[strings.ToLower(split)]; usual != "" {
		return splitOf(path) == usual
	}
	parts := strings.Split(filepath.ToSlash(path), "/")
	base := &parts[len(parts)-1]
	*base = numbered.ReplaceAllString(withoutExtension(*base), "")
	return slices.Contains(parts, split)
}

// pickSplit chooses the files or folders of one split among those of a folder, given relative to it: of the split that
// is asked for, else train or, for held-out rows, validation, else test. If no name is of a split it chooses all. It
// fails if the names do not determine the files.
func pickSplit(dir string, files []string, o Options) (chosen []string, split Split, err error) {
	bySplit := map[Split][]string{}
	for _, file := range files {
		split := splitOf(file)
		bySplit[split] = append(bySplit[split], file)
	}
	if o.Split != "" && !o.HeldOut {
		return askedSplit(dir, files, bySplit, o.Split)
	}
	wanted := []Split{SplitTrain}
	if o.HeldOut {
		wanted = []Split{SplitValidation, SplitTest}
	}
	for _, split := range wanted {
		if len(bySplit[split]) > 0 {
			return bySplit[split], split, nil
		}
	}
	rest := slices.Sorted(maps.Keys(bySplit))
	switch {
	case len(rest) == 1 && (rest[0] == "" || o.HeldOut):
		return bySplit[rest[0]], rest[0], nil // Dataset.Shares finds out whether training reads the same files
	case len(rest) == 1:
		return nil, "", fmt.Errorf("%s has no split train, only %s (%s): to train on it, give --split %s",
			dir, rest[0], someNames(files), rest[0])
	}
	return nil, "", fmt.Errorf("%s does not say which of its files are meant: %s; choose with --split, or name the "+
		"files", dir, describeSplits(bySplit))
}

// askedSplit chooses the files of a split that is asked for. Where no name is of a split, all are of train.
func askedSplit(dir string, files []string, bySplit map[Split][]string, wanted string) ([]string, Split, error) {
	var chosen []string
	for _, file := range files {
		if belongsTo(file, wanted) {
			chosen = append(chosen, file)
		}
	}
	usual := splitWords[strings.ToLower(wanted)]
	switch {
	case len(chosen) > 0 && usual != "":
		return chosen, usual, nil
	case len(chosen) > 0:
		return chosen, Split(wanted), nil
	case usual == SplitTrain && len(bySplit) == 1 && len(bySplit[""]) > 0:
		return files, "", nil
	}
	return nil, "", fmt.Errorf("%s has no split %s: it has %s", dir, wanted, describeSplits(bySplit))
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
