package plugin

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"limner/internal/disk"
	"limner/xla/pjrt"
)

// Library is a plugin that this process has loaded.
type Library struct {
	path  string
	file  *os.File // the loaded file, even if another is at path by now
	Table pjrt.Table

	// hash gives the file's SHA-256. For a file that limner did not install, its stamp is in folder.
	hash func(folder string) (string, error)
}

// libraries are the plugins that were loaded, by their paths.
var libraries struct {
	sync.Mutex
	byPath map[string]*Library
	// held are never closed: the loader identifies a library by its descriptor, and would take another with the same
	// number for it.
	held []*os.File
}

// Load loads and initializes a plugin, once. A plugin that limner installed is loaded only if its SHA-256 is right.
func Load(path string) (*Library, error) {
	libraries.Lock()
	defer libraries.Unlock()
	if l, ok := libraries.byPath[path]; ok {
		return l, nil
	}
	if err := checkAddressLimit(); err != nil {
		return nil, err
	}
	file, err := disk.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open PJRT plugin: %w", err)
	}
	l := &Library{path: path, file: file}
	if err := l.check(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("open PJRT plugin %s: %w", path, err)
	}
	if libraries.byPath == nil {
		libraries.byPath = map[string]*Library{}
	}
	libraries.byPath[path] = l
	return l, nil
}

// check compares the hash of a plugin that limner installed; that of another is computed when it is needed.
func (l *Library) check() error {
	want := installedHash(l.path)
	if want == "" {
		l.hash = l.noted
		return nil
	}
	got, err := knownHash(context.Background(), l.file, stampBeside(l.path))
	if err == nil && got != want {
		err = damagedError{path: l.path, got: got, want: want}
	}
	l.hash = func(string) (string, error) { return got, nil }
	return err
}

// load loads the open file.
func (l *Library) load() error {
	name, folder, err := descriptorName(l.file, l.path)
	if err != nil {
		return err
	}
	libraries.held = append(libraries.held, l.file, folder)
	if l.Table, err = pjrt.Load(name); err != nil {
		text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "load "+name+": "), name+": ", "")
		return errors.New(strings.ReplaceAll(text, name, l.path))
	}
	return l.Table.Initialize()
}

// noted is the hash of a file that limner did not install, with a stamp in folder.
func (l *Library) noted(folder string) (string, error) {
	stamp := ""
	if folder != "" {
		stamp = filepath.Join(folder, "plugin-"+sum([]byte(l.path))[:16]+".json")
	}
	return knownHash(context.Background(), l.file, stamp)
}

// Identity is the name and the SHA-256 of the plugin's file. A stamp in folder saves reading a file that limner did not
// install.
func (l *Library) Identity(folder string) (string, error) {
	hash, err := l.hash(folder)
	if err != nil {
		return "", fmt.Errorf("identify the plugin: %w", err)
	}
	return filepath.Base(l.path) + " " + hash, nil
}

// descriptorName is a name by which the loader opens the same file as f, if the system has such names. A library that
// looks for others beside itself, as NVIDIA's does, must be opened in its folder: then the folder is kept open, and the
// file in it compared with f.
func descriptorName(f *os.File, path string) (name string, folder *os.File, err error) {
	if runtime.GOOS != "linux" {
		return path, nil, disk.SameFile(f, path)
	}
	if !looksBesideItself(f) {
		return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), nil, nil
	}
	if err := disk.CheckPrivate(filepath.Dir(path)); err != nil {
		return "", nil, fmt.Errorf("it loads other libraries from its folder: %w", err)
	}
	if folder, err = os.Open(filepath.Dir(path)); err != nil {
		return "", nil, err
	}
	name = fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(path))
	return name, folder, disk.SameFile(f, name)
}

// looksBesideItself says whether a file is a library that names folders relative to its own.
func looksBesideItself(f *os.File) bool {
	library, err := elf.NewFile(f)
	if err != nil {
		return false
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		folders, _ := library.DynString(tag)
		if strings.Contains(strings.Join(folders, ":"), "$ORIGIN") {
			return true
		}
	}
	return false
}
