package data

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// source is what a given path means: parquet files, or a folder of images.
type source struct {
	path   string
	files  []string // parquet files; none: path is a folder of images
	split  Split    // of the files
	passed []string // files of other splits, within the folder
	rows   int64
}

// findSource finds what a path means. A parquet file means itself. A folder means its *.parquet files or those of its
// subfolder data, of one split if they name any, in the order of their names; a folder without any is one of images.
func findSource(path string, heldOut bool) (source, error) {
	s := source{path: path}
	info, err := os.Stat(path)
	if err != nil {
		return s, fmt.Errorf("open data: %w", err)
	}
	if !info.IsDir() {
		s.files = []string{path}
		return s, nil
	}
	for _, folder := range []string{"", "data"} {
		found, err := parquetIn(path, folder)
		if err != nil {
			return s, fmt.Errorf("open data: %w", err)
		}
		if len(found) == 0 {
			continue
		}
		chosen, split, err := pickSplit(path, found, heldOut)
		if err != nil {
			return s, err
		}
		for _, name := range found {
			if slices.Contains(chosen, name) {
				s.files = append(s.files, filepath.Join(path, name))
			} else {
				s.passed = append(s.passed, name)
			}
		}
		s.split = split
		return s, nil
	}
	return s, nil
}

// parquetIn lists the parquet files of a folder within dir, by their paths relative to dir.
func parquetIn(dir, folder string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries { // sorted by name
		if !e.IsDir() && filepath.Ext(e.Name()) == ".parquet" {
			names = append(names, filepath.Join(folder, e.Name()))
		}
	}
	return names, err
}

// open opens the source's tables.
func (s source) open(o Options) ([]table, error) {
	if len(s.files) == 0 {
		t, err := openFolder(s.path, o)
		if err != nil {
			return nil, err
		}
		return []table{t}, nil
	}
	var tables []table
	for _, file := range s.files {
		t, err := openParquetTable(file, o)
		if err != nil {
			for _, t := range tables {
				err = errors.Join(err, t.Close())
			}
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// describe says what is read from the source, and what is not.
func (s source) describe(tables []table) (string, error) {
	line := fmt.Sprintf("%s: %d rows", s.path, s.rows)
	used := map[string]bool{}
	if f, ok := tables[0].(*folder); ok {
		used = f.used()
	} else if len(s.files) == 1 && s.files[0] == s.path {
		return line, nil
	} else {
		var names []string
		for _, file := range s.files {
			name, err := filepath.Rel(s.path, file)
			if err != nil {
				return "", err
			}
			names = append(names, name)
			used[topOf(name)] = true
		}
		line += fmt.Sprintf(" in %d files", len(names))
		if len(names) == 1 {
			line = strings.TrimSuffix(line, "s")
		}
		if s.split != "" {
			line += " of the split " + string(s.split)
		}
		line += " (" + someNames(names) + ")"
	}
	var passed []string
	for _, name := range s.passed {
		text := name
		if split := splitOf(name); split != "" {
			text += fmt.Sprintf(" (split %s)", split)
		}
		passed, used[topOf(name)] = append(passed, text), true
	}
	others, err := passedOver(s.path, used)
	if passed = append(passed, others...); len(passed) > 0 {
		line += "; passed over: " + strings.Join(passed, ", ")
	}
	return line, err
}

// topOf is the first element of a path within a folder.
func topOf(name string) string {
	top, _, _ := strings.Cut(filepath.ToSlash(name), "/")
	return top
}

// passedOver counts and names what in a folder is not read, by kinds. Hidden files and README.md are not part of a
// dataset.
func passedOver(dir string, used map[string]bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	kinds := map[string][]string{}
	for _, e := range entries {
		name := e.Name()
		kind := strings.ToLower(filepath.Ext(name))
		switch {
		case used[name] || strings.HasPrefix(name, ".") || name == "README.md":
			continue
		case e.IsDir():
			kind = "folder"
		case kind == "":
			kind = "file without extension"
		}
		kinds[kind] = append(kinds[kind], name)
	}
	var passed []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		passed = append(passed, fmt.Sprintf("%d × %s (%s)", len(kinds[kind]), kind, someNames(kinds[kind])))
	}
	return passed, nil
}
