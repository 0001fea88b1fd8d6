package data

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// maxPattern is how many files a pattern may mean.
const maxPattern = 100_000

// braces are a range of numbers, as in {000..010}, or a list of alternatives.
var braces = regexp.MustCompile(`\{([^{}]*)\}`)

// isPattern says whether a path stands for several files.
func isPattern(path string) bool { return strings.ContainsAny(path, "*?[") || braces.MatchString(path) }

// pattern finds the files that a pattern means: with braces as in shard-{000..010}.tar or {train,more}.parquet, which
// must all be there, and with * ? and [] as in a shell.
func (f *finder) pattern() error {
	names, err := expand(f.path)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	var files []string
	for _, name := range names {
		if _, err := os.Stat(name); err == nil {
			files = append(files, name)
			continue
		}
		found, err := filepath.Glob(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(found) == 0 {
			return fmt.Errorf("%s: there is no %s", f.path, name)
		}
		files = append(files, found...)
	}
	f.dir = ""
	for _, file := range files {
		l, err := layoutOf(file)
		if err != nil {
			return err
		}
		if f.layout != 0 && f.layout != l {
			return fmt.Errorf("%s: %s and %s are of different layouts: name one", f.path, files[0], file)
		}
		f.layout = l
	}
	f.files = files
	return nil
}

// expand replaces the braces of a pattern by what they mean.
func expand(pattern string) ([]string, error) {
	at := braces.FindStringSubmatchIndex(pattern)
	if at == nil {
		return []string{pattern}, nil
	}
	parts, err := alternatives(pattern[at[2]:at[3]])
	if err != nil {
		return nil, err
	}
	rest, err := expand(pattern[at[1]:])
	if err != nil {
		return nil, err
	}
	if len(parts)*len(rest) > maxPattern {
		return nil, fmt.Errorf("a pattern of more than %d files", maxPattern)
	}
	var all []string
	for _, part := range parts {
		for _, end := range rest {
			all = append(all, pattern[:at[0]]+part+end)
		}
	}
	return all, nil
}

// alternatives are what stands between braces: numbers from first to last, with the digits of the first, or a list.
func alternatives(text string) ([]string, error) {
	first, last, isRange := strings.Cut(text, "..")
	if !isRange {
		return strings.Split(text, ","), nil
	}
	from, err := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("{%s}: want numbers, as in {000..010}", text)
	}
	if from < 0 || to < from || to-from >= maxPattern {
		return nil, fmt.Errorf("{%s}: want numbers from a smaller to a larger one, at most %d", text, maxPattern)
	}
	var all []string
	for n := from; n <= to; n++ {
		all = append(all, fmt.Sprintf("%0*d", len(first), n))
	}
	return all, nil
}
