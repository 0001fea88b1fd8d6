package xla

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"limner/internal/disk"
	"limner/xla/cpu"
	"limner/xla/pjrt"
	"limner/xla/plugin"
)

// CacheLimit is how many bytes of programs the cache keeps; those that were not used for longest make room.
const CacheLimit = 20 << 30

// store is where programs are taken from instead of compiling them: files that were brought along, then the cache.
type store struct {
	carried []*executables
	folder  string // of the cache; "" for none
	limit   int64
	log     io.Writer

	closed atomic.Bool // nothing can be kept, and that was said
	timing sync.Mutex  // of compile-times.json
}

// openStore reads the headers of the files and makes the cache's folder. Without the folder, or where others could put
// programs into it, it goes on.
func openStore(o Options) (*store, error) {
	s := &store{folder: o.Cache, limit: CacheLimit, log: o.Log}
	if s.log == nil {
		s.log = io.Discard
	}
	for _, path := range o.Executables {
		e, err := openExecutables(path)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("executable: %w", err), s.shut())
		}
		s.carried = append(s.carried, e)
	}
	if s.folder != "" {
		err := os.MkdirAll(s.folder, 0o700)
		if err == nil {
			if err = disk.CheckPrivate(s.folder); err != nil {
				err = fmt.Errorf("they are native code, and none is loaded either: %w", err)
			}
		}
		if err != nil {
			s.close(err)
		}
	}
	return s, nil
}

// shut closes the files that were brought along.
func (s *store) shut() (err error) {
	for _, e := range s.carried {
		err = errors.Join(err, e.close())
	}
	s.carried = nil
	return err
}

// idle says that there is nothing to load from or to keep in.
func (s *store) idle() bool { return !s.open() && len(s.carried) == 0 }

// open says that there is a cache.
func (s *store) open() bool { return s.folder != "" && !s.closed.Load() }

// load takes a program from a file or the cache; nil if it is not there and whole. begin hears before it is tried.
func (s *store) load(client *pjrt.Client, key programKey, begin beginning) *pjrt.Loaded {
	tried := false
	for _, e := range s.carried {
		if i := slices.IndexFunc(e.list, func(x executable) bool { return x.Key == key }); i >= 0 {
			tried = true
			if program := s.loadFrom(client, e, i, begin); program != nil {
				return program
			}
		}
	}
	if !tried && len(s.carried) > 0 {
		fmt.Fprintln(s.log, s.mismatch(key))
	}
	if !s.open() {
		return nil
	}
	path, err := s.path(key)
	if err != nil {
		return nil
	}
	e, err := openExecutables(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer e.close()
		if err = disk.CheckPrivate(path); err == nil {
			err = disk.SameFile(e.file, path)
		}
		if err == nil && (len(e.list) != 1 || e.list[0].Key != key) {
			err = fmt.Errorf("%s is of another program", path)
		}
	}
	if err != nil {
		fmt.Fprintf(s.log, "compiling anew: %v\n", err)
		return nil
	}
	program := s.loadFrom(client, e, 0, begin)
	if program != nil {
		now := time.Now()
		_ = os.Chtimes(path, now, now) // used: one that cannot be marked so is only removed earlier
	}
	return program
}

// loadFrom loads a program of a file; nil if it is not whole.
func (s *store) loadFrom(client *pjrt.Client, e *executables, i int, begin beginning) *pjrt.Loaded {
	payload, err := e.payload(i)
	if err == nil {
		begin(true, 0)
		if plugin.IsPinnedCPU(e.list[i].Key.Plugin) {
			if program, err := client.Load(cpu.Lighten(payload)); err == nil {
				return program
			}
		}
		var program *pjrt.Loaded
		if program, err = client.Load(payload); err == nil {
			return program
		}
		err = fmt.Errorf("load %s: %w", e.path, err)
	}
	fmt.Fprintf(s.log, "compiling anew: %v\n", err)
	return nil
}

// mismatch says why no file that was brought along has the program: in what the most similar one differs.
func (s *store) mismatch(key programKey) string {
	var names, least []string
	var path string
	for _, e := range s.carried {
		for _, x := range e.list {
			names = append(names, x.Key.Name)
			if x.Key.Name != key.Name {
				continue
			}
			if parts := key.differences(x.Key); least == nil || len(parts) < len(least) {
				least, path = parts, e.path
			}
		}
	}
	if least == nil {
		return fmt.Sprintf("no executable of %s was brought along, only of %s", key.Name, strings.Join(names, ", "))
	}
	return fmt.Sprintf("the executable of %s in %s cannot be used: it differs in its %s",
		key.Name, path, strings.Join(least, ", "))
}

func (s *store) path(key programKey) (string, error) {
	id, err := key.id()
	return filepath.Join(s.folder, id+plugin.ExecutableExt), err
}

// keep puts a program that was just compiled into the cache.
func (s *store) keep(program *pjrt.Loaded, key programKey) {
	if !s.open() {
		return
	}
	payload, err := program.Serialize()
	if err != nil {
		s.close(fmt.Errorf("%s cannot serialize programs: %w", key.Plugin, err))
		return
	}
	path, err := s.path(key)
	if err == nil {
		err = writeExecutables(path, []programKey{key}, [][]byte{payload})
	}
	if err == nil {
		err = s.prune(path)
	}
	if err != nil {
		s.close(err)
	}
}

// close ends the keeping of programs in this process, and says so once.
func (s *store) close(err error) {
	if !s.closed.Swap(true) {
		fmt.Fprintf(s.log, "compiled programs are not kept: %v\n", err)
	}
}

// prune removes what was not used for longest until the rest is within the limit, and what killed processes left
// behind. The file at path stays.
func (s *store) prune(path string) error {
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return err
	}
	var kept []fs.FileInfo
	var total int64
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // another process removed it
		}
		switch {
		case strings.HasSuffix(info.Name(), plugin.ExecutableExt):
			kept, total = append(kept, info), total+info.Size()
		case strings.HasPrefix(info.Name(), ".") && time.Since(info.ModTime()) > time.Hour:
			_ = os.Remove(filepath.Join(s.folder, info.Name())) // it is in nobody's way
		}
	}
	slices.SortFunc(kept, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, info := range kept {
		if total <= s.limit {
			break
		}
		if info.Name() == filepath.Base(path) {
			continue
		}
		if err := os.Remove(filepath.Join(s.folder, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		total -= info.Size()
	}
	return nil
}
