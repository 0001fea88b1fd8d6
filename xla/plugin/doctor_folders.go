package plugin

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"limner/internal/disk"
)

// Space below which a folder is a problem: a plugin, or a dataset with its checkpoints.
const leastFree = 1e9

// folders describes the folders that limner uses.
func (r *Report) folders(o DoctorOptions) {
	cache := o.Install.CacheDir
	if cache == "" {
		dir, err := CacheDir(o.Install.getenv)
		if err != nil {
			r.problem("set LIMNER_CACHE to a folder that you can write", "%v", err)
		}
		cache = dir
	}
	work, err := filepath.Abs(o.WorkDir)
	if err != nil {
		r.problem("change to a folder that exists", "the working folder: %v", err)
	}
	for _, f := range []struct{ name, path, do string }{
		{"cache", cache, "set LIMNER_CACHE to a folder on a disk with more space that you can write"},
		{
			"compiled programs", o.Cache,
			"set LIMNER_COMPILATION_CACHE_DIR to a folder on a disk with more space that you can write",
		},
		{"Hugging Face cache", hubCache(o.Install.getenv), ""}, // read, and written only by downloads
		{"working folder", work, "work in a folder on a disk with more space that you can write"},
	} {
		if f.path == "" {
			continue
		}
		report := inspectFolder(f.name, f.path)
		r.Folders = append(r.Folders, report)
		switch {
		case f.do == "":
		case !report.Writable:
			r.problem(f.do, "the %s %s cannot be written", f.name, f.path)
		case report.TotalBytes > 0 && report.FreeBytes < leastFree:
			r.problem(f.do, "the %s %s has only %s free", f.name, f.path, gigabytes(report.FreeBytes))
		}
	}
	r.programs(o.Cache)
}

// shared reports a plugin that other users could change or replace: it is native code, too.
func (r *Report) shared(path string) {
	if err := disk.CheckPrivate(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.problem("do what the message says if nobody else works with it, or use a plugin in a folder of your own",
			"the plugin %s is native code that others could change: %v", path, err)
	}
}

// ExecutableExt is the extension of compiled programs in the cache.
const ExecutableExt = ".executable"

// programs reports the compiled programs that are not loaded from the cache because other users could have put them
// there.
func (r *Report) programs(folder string) {
	const do = "do what the message says if nobody else works with it, else remove it: it is only a cache; " +
		"or set LIMNER_COMPILATION_CACHE_DIR to a folder of your own"
	if folder == "" {
		return
	}
	if err := disk.CheckPrivate(nearest(folder)); err != nil {
		r.problem(do, "compiled programs are native code, and none is loaded from or kept in %s: %v", folder, err)
		return
	}
	files, err := filepath.Glob(filepath.Join(folder, "*"+ExecutableExt))
	if err != nil {
		return
	}
	var first error
	refused := 0
	for _, path := range files {
		if err := disk.CheckPrivate(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			refused++
			first = cmp.Or(first, err)
		}
	}
	if refused > 0 {
		r.problem(do, "%d of %d compiled programs in %s are not loaded, the first: %v",
			refused, len(files), folder, first)
	}
}

// inspectFolder checks path, or the nearest folder above it that exists.
func inspectFolder(name, path string) FolderReport {
	report := FolderReport{Name: name, Path: path}
	info, err := os.Stat(path)
	report.Exists = err == nil && info.IsDir()
	there := nearest(path)
	if there != path {
		info, err = os.Stat(there)
	}
	if err != nil || !info.IsDir() {
		return report
	}
	report.Writable = disk.Permitted(there)
	if free, total, err := disk.Space(there); err == nil {
		report.FreeBytes, report.TotalBytes = free, total
	}
	return report
}

// nearest is path, or the nearest folder above it that exists.
func nearest(path string) string {
	for {
		_, err := os.Stat(path)
		if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
			return path
		}
		path = filepath.Dir(path)
	}
}

// hubCache is where the Hugging Face libraries keep downloads; empty if there is no home folder.
func hubCache(getenv func(string) string) string {
	if dir := getenv("HF_HUB_CACHE"); dir != "" {
		return dir
	}
	if dir := getenv("HF_HOME"); dir != "" {
		return filepath.Join(dir, "hub")
	}
	if dir := getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "huggingface", "hub")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".cache", "huggingface", "hub")
}
