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

	"limner/internal/disk"
)

// layout is the way in which files hold a dataset.
type layout int

const (
	parquetFiles layout = iota + 1
	arrowFiles          // of the datasets library's save_to_disk
	tarFiles            // in the WebDataset format
	metadataFiles
	imageFiles
)

// source is what a given path means: files of one layout.
type source struct {
	path   string // as it was given
	dir    string // of the files; names are relative to it
	layout layout
	files  []string
	split  Split
	config string
	passed []string // files and folders of other splits and configurations
}

// finder looks for the files of a dataset.
type finder struct {
	source
	options Options
}

// findSource finds what a path means. A file means itself, and so do the files of a pattern. A folder means its files
// of the first of the layouts parquet, arrow, tar, metadata and images that it has, of one split if their names tell
// splits apart; if it has none, those of the subfolder of a split, of a configuration, or the images below it.
func findSource(path string, o Options) (source, error) {
	f := finder{source: source{path: path, dir: path}, options: o}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && isPattern(path):
		err = f.pattern()
	case err != nil:
		err = fmt.Errorf("open data: %w", err)
	case info.IsDir():
		err = f.folder("", 0)
	default:
		f.dir = filepath.Dir(path)
		f.layout, err = layoutOf(path)
		f.files = []string{filepath.Base(path)}
	}
	return f.source, err
}

// layoutOf is the layout of a file that is named itself: parquet where its name says nothing.
func layoutOf(name string) (layout, error) {
	switch extension := strings.ToLower(filepath.Ext(name)); {
	case extension == ".arrow":
		return arrowFiles, nil
	case extension == ".tar":
		return tarFiles, nil
	case extension == ".jsonl" || extension == ".csv" || filepath.Base(name) == promptName:
		return metadataFiles, nil
	case extension == ".zip":
		return 0, fmt.Errorf("%s: a zip archive is read beside a train.jsonl or %s that names its images: "+
			"name that file, or unpack the archive", name, metadataName)
	case extension == ".gz" || extension == ".tgz" || extension == ".zst":
		return 0, fmt.Errorf("%s: compressed files are not read, since rows are read where they lie: unpack it", name)
	case isImageName(filepath.Base(name)):
		return 0, fmt.Errorf("%s: an image: name its folder", name)
	}
	return parquetFiles, nil
}

// folder finds the files in the folder of a name within the given one.
func (f *finder) folder(name string, depth int) error {
	entries, err := os.ReadDir(filepath.Join(f.path, name))
	if err != nil {
		return fmt.Errorf("open data: %w", err)
	}
	for _, folder := range []string{name, filepath.Join(name, "data")} {
		if found, err := f.filesIn(folder, ".parquet"); err != nil || len(found) > 0 {
			return f.choose(parquetFiles, found, err)
		}
	}
	for _, l := range []struct {
		layout    layout
		extension string
	}{{arrowFiles, ".arrow"}, {tarFiles, ".tar"}} {
		if found, err := f.filesIn(name, l.extension); err != nil || len(found) > 0 {
			return f.choose(l.layout, found, err)
		}
	}
	if found := metadataIn(name, entries); len(found) > 0 {
		return f.choose(metadataFiles, found, nil)
	}
	if found := join(name, entries, isImage); len(found) > 0 {
		f.layout, f.files = imageFiles, found
		return nil
	}
	folders := join(name, entries, func(e fs.DirEntry) bool {
		return e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "__")
	})
	if depth < maxDepth {
		if done, err := f.subfolders(name, folders, depth); done || err != nil {
			return err
		}
	}
	images, err := imagesBelow(filepath.Join(f.path, name))
	if err != nil {
		return fmt.Errorf("open data: %w", err)
	}
	if len(images) == 0 {
		return f.refuse()
	}
	f.layout, f.dir, f.files = imageFiles, filepath.Join(f.path, name), images
	return nil
}

// subfolders goes on in one of the folders: that of the split or, if they name none, that of the configuration.
func (f *finder) subfolders(name string, folders []string, depth int) (done bool, err error) {
	var splits []string
	for _, folder := range folders {
		if splitWords[strings.ToLower(filepath.Base(folder))] != "" || f.names(folder) {
			splits = append(splits, folder)
		}
	}
	if len(splits) > 0 {
		chosen, split, err := pickSplit(f.path, splits, f.options)
		if err != nil {
			return false, err
		}
		if len(chosen) > 1 {
			return false, fmt.Errorf("%s: %s are all of the split %s: name one", f.path, someNames(chosen), split)
		}
		f.pass(folders, chosen)
		err = f.folder(chosen[0], depth+1)
		if f.split == "" {
			f.split = split
		}
		return true, err
	}
	var configs []string
	for _, folder := range folders {
		if has, err := holdsTables(filepath.Join(f.path, folder)); err != nil {
			return false, fmt.Errorf("open data: %w", err)
		} else if has {
			configs = append(configs, folder)
		}
	}
	config, err := f.config(configs)
	if config == "" || err != nil {
		return false, err
	}
	f.pass(folders, []string{config})
	if filepath.Base(config) != "data" {
		f.source.config = filepath.Base(config)
	}
	return true, f.folder(config, depth+1)
}

// names says whether a folder is called as the split that is asked for.
func (f *finder) names(folder string) bool {
	return !f.options.HeldOut && f.options.Split != "" && filepath.Base(folder) == f.options.Split
}

// config chooses among the folders of configurations: the one that is asked for, the only one, or the default one.
func (f *finder) config(configs []string) (string, error) {
	wanted := f.options.DatasetConfigName
	for _, folder := range configs {
		if filepath.Base(folder) == wanted {
			return folder, nil
		}
	}
	switch {
	case wanted != "" && len(configs) > 0 && f.source.config != wanted && filepath.Base(configs[0]) != "data":
		return "", fmt.Errorf("%s has no configuration %s; it has %s", f.path, wanted, strings.Join(configs, ", "))
	case len(configs) == 1:
		return configs[0], nil
	case len(configs) == 0:
		return "", nil
	}
	for _, folder := range configs {
		if filepath.Base(folder) == "default" {
			return folder, nil
		}
	}
	return "", fmt.Errorf("%s holds several configurations: %s; choose one with --dataset_config_name",
		f.path, strings.Join(configs, ", "))
}

// pass notes which of all are not chosen.
func (f *finder) pass(all, chosen []string) {
	for _, name := range all {
		if !slices.Contains(chosen, name) {
			f.passed = append(f.passed, name)
		}
	}
}

// choose takes those of the found files that belong to the split.
func (f *finder) choose(l layout, found []string, err error) error {
	if err != nil {
		return fmt.Errorf("open data: %w", err)
	}
	chosen, split, err := pickSplit(f.path, found, f.options)
	if err != nil {
		return err
	}
	f.pass(found, chosen)
	f.layout, f.files = l, chosen
	if split != "" {
		f.split = split
	}
	return nil
}

// filesIn lists a folder's files with an extension. Those that the datasets library keeps as a cache are left out.
func (f *finder) filesIn(folder, extension string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(f.path, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return join(folder, entries, func(e fs.DirEntry) bool {
		cache := extension == ".arrow" && strings.HasPrefix(e.Name(), "cache-")
		return !e.IsDir() && filepath.Ext(e.Name()) == extension && !strings.HasPrefix(e.Name(), ".") && !cache
	}), err
}

// join lists the names of those entries of a folder that are wanted, within the given folder, sorted.
func join(folder string, entries []fs.DirEntry, wanted func(fs.DirEntry) bool) (names []string) {
	for _, e := range entries { // sorted by name
		if wanted(e) {
			names = append(names, filepath.Join(folder, e.Name()))
		}
	}
	return names
}

// metadataIn lists the metadata files of the first kind that a folder has.
func metadataIn(folder string, entries []fs.DirEntry) []string {
	for _, name := range []string{metadataName, metadataCSVName, promptName} {
		if found := join(folder, entries, func(e fs.DirEntry) bool { return e.Name() == name }); len(found) > 0 {
			return found
		}
	}
	return join(folder, entries, func(e fs.DirEntry) bool {
		name := withoutExtension(e.Name())
		return !e.IsDir() && filepath.Ext(e.Name()) == ".jsonl" && splitOf(name) != ""
	})
}

// holdsTables says whether a folder, or one below it, has files of a layout other than images.
func holdsTables(dir string) (bool, error) {
	found := errors.New("found")
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && strings.Count(relative(dir, path), string(filepath.Separator)) > maxDepth:
			return filepath.SkipDir
		case e.IsDir():
			return nil
		}
		switch filepath.Ext(e.Name()) {
		case ".parquet", ".arrow", ".tar":
			return found
		}
		if len(metadataIn("", []fs.DirEntry{e})) > 0 {
			return found
		}
		return nil
	})
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// refuse says what a folder holds of which nothing can be read.
func (f *finder) refuse() error {
	others, err := passedOver(f.path, nil)
	holds := "nothing"
	if len(others) > 0 {
		holds = strings.Join(others, ", ")
	}
	return errors.Join(fmt.Errorf("%s holds no dataset that is read: it has %s. Read are *.parquet, *.arrow and *.tar "+
		"files, images (%s) with captions beside them, and images that a %s, %s, %s or train.jsonl names",
		f.path, holds, strings.Join(imageExtensions, ", "), metadataName, metadataCSVName, promptName), err)
}

// open opens the source's tables.
func (s source) open(o Options) ([]table, error) {
	if s.layout == imageFiles {
		t, err := openFolder(s.dir, s.files, o)
		if err != nil {
			return nil, err
		}
		return []table{t}, nil
	}
	openFile := map[layout]func(string, Options) (table, error){
		parquetFiles: openParquetTable, arrowFiles: openArrow, tarFiles: openWebDataset, metadataFiles: openMetadata,
	}[s.layout]
	if o.readsConditioning() && o.ConditioningDataDir != "" && s.layout != metadataFiles {
		return nil, fmt.Errorf("%s: --conditioning_data_dir goes with folders of images and their metadata; "+
			"files as %s name conditioning images themselves", s.path, someNames(s.files))
	}
	var tables []table
	for _, file := range s.files {
		path := filepath.Join(s.dir, file)
		err := notPointer(path)
		var t table
		if err == nil {
			t, err = openFile(path, o)
		}
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

// notPointer fails for what Git leaves in place of a large file where its extension LFS is not installed.
func notPointer(path string) error {
	f, err := disk.Open(path)
	if err != nil {
		return err // names the path
	}
	defer f.Close()
	const mark = "version https://git-lfs.github.com/spec/"
	start := make([]byte, len(mark))
	if _, err := f.ReadAt(start, 0); err == nil && string(start) == mark {
		return fmt.Errorf("%s is a Git LFS pointer, not the file: fetch the files with git lfs pull", path)
	}
	return nil
}

// describe says what is read from the source, and what is not.
func (s source) describe(tables []table, rows int64) (string, error) {
	line := fmt.Sprintf("%s: %d rows", s.path, rows)
	columns, notes := tables[0].describe()
	used := map[string]bool{}
	single := filepath.Join(s.dir, s.files[0]) == s.path
	if s.layout != imageFiles && !single {
		line += fmt.Sprintf(" in %d files", len(s.files))
		if len(s.files) == 1 {
			line = strings.TrimSuffix(line, "s")
		}
		if s.config != "" {
			line += " of the configuration " + s.config
		}
	}
	if s.split != "" {
		line += " of the split " + string(s.split)
	}
	if s.layout != imageFiles && !single {
		line += " (" + someNames(s.files) + ")"
	}
	if len(columns) > 0 {
		line += ", columns " + strings.Join(columns, ", ")
	}
	for _, t := range tables[1:] {
		_, more := t.describe()
		notes = append(notes, more...)
	}
	for _, note := range notes {
		line += "; " + note
	}
	if single {
		return line, nil
	}
	for _, name := range s.files {
		used[topOf(name)] = true
	}
	if l, ok := tables[0].(*listing); ok && s.dir == s.path {
		maps.Copy(used, l.used)
	} else if ok {
		used[topOf(relative(s.path, s.dir))] = true
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

// passedOver counts and names what in a folder is not read, by kinds. Hidden files, README.md and the files in which
// the datasets library describes a dataset are not part of it.
func passedOver(dir string, used map[string]bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	kinds := map[string][]string{}
	for _, e := range entries {
		name := e.Name()
		kind := strings.ToLower(filepath.Ext(name))
		info, err := os.Stat(filepath.Join(dir, name))
		switch {
		case used[name] || strings.HasPrefix(name, ".") || slices.Contains(descriptions, name):
			continue
		case e.IsDir():
			kind = "folder"
		case err == nil && info.IsDir():
			kind = "link to a folder"
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

// descriptions are files about a dataset.
var descriptions = []string{"README.md", "dataset_info.json", "state.json", "dataset_dict.json"}
