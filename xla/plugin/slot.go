package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"limner/internal/disk"
	"limner/internal/plaintext"
)

// markFile is the file beside an unpacked plugin that marks a complete installation.
const markFile = "installed.json"

// maxMark is more bytes than any mark has.
const maxMark = 1 << 16

// installMark is the content of markFile.
type installMark struct {
	Package string `json:"package"`
	Version string `json:"version"`
	Source  string `json:"source_sha256"` // of the wheel; empty if no hash is pinned
	File    string `json:"file"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
}

// pluginSlot is the place of one plugin version in the cache:
//
//	plugins/<package>-<version>/<plugin>.so and installed.json; checked.json, see stamp
//	plugins/.<package>-<version>.lock       held while installing
//	plugins/.<package>-<version>.new-*      an install under way, or left by a killed one
type pluginSlot struct {
	plugins string // the folder plugins
	name    string // <package>-<version>
	source  string // SHA-256 of the wheel that the mark must name
	plugin  string // SHA-256 of the plugin; empty if none is pinned
}

func (s pluginSlot) dir() string { return filepath.Join(s.plugins, s.name) }

func (w Wheel) slot(cacheDir string) pluginSlot {
	return pluginSlot{
		plugins: filepath.Join(cacheDir, "plugins"), name: w.Package + "-" + w.Version, source: w.SHA256,
		plugin: w.PluginSHA256,
	}
}

// readMark returns the mark and the plugin's path if the installation is complete.
func (s pluginSlot) readMark() (installMark, string, error) {
	var m installMark
	data, err := disk.ReadFile(filepath.Join(s.dir(), markFile), maxMark)
	if err != nil {
		return m, "", err
	}
	if err := plaintext.JSON(data, &m); err != nil {
		return m, "", fmt.Errorf("read %s: %w", filepath.Join(s.dir(), markFile), err)
	}
	path := filepath.Join(s.dir(), filepath.Base(m.File))
	info, err := os.Stat(path)
	if err != nil {
		return m, "", err
	}
	if m.Source != s.source || !info.Mode().IsRegular() || info.Size() != m.Size {
		return m, "", fmt.Errorf("%s is not what %s says it is", path, markFile)
	}
	if s.plugin != "" && m.SHA256 != s.plugin {
		return m, "", damagedError{path: path, got: m.SHA256, want: s.plugin}
	}
	return m, path, nil
}

// installed returns the plugin's path if the installation is complete and the plugin is unchanged since.
func (s pluginSlot) installed(ctx context.Context) (string, error) {
	m, path, err := s.readMark()
	if err != nil {
		return "", err
	}
	f, err := disk.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	got, err := knownHash(ctx, f, stampBeside(path))
	if err == nil && got != m.SHA256 {
		err = damagedError{path: path, got: got, want: m.SHA256}
	}
	return path, err
}

// fill runs fetch, which puts the plugin into an empty folder and returns its mark, and moves that folder to its final
// name. Only one process at a time does so; the others wait and then use its plugin.
func (s pluginSlot) fill(ctx context.Context, r installReporter,
	fetch func(stage string) (installMark, error)) (string, error) {
	if path, err := s.installed(ctx); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(s.plugins, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w: set LIMNER_CACHE to a folder that you can write", err)
	}
	unlock, err := s.lock(ctx, r)
	if err != nil {
		return "", err
	}
	defer unlock()
	path, err := s.installed(ctx)
	if err == nil {
		return path, nil
	}
	if damaged := (damagedError{}); errors.As(err, &damaged) {
		r.say("%s is damaged or was replaced (sha256 %s, want %s): installing it again",
			damaged.path, damaged.got, damaged.want)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := s.removeLeftovers(); err != nil {
		return "", err
	}
	stage, err := os.MkdirTemp(s.plugins, "."+s.name+".new-")
	if err != nil {
		return "", fmt.Errorf("make a folder in the cache: %w: set LIMNER_CACHE to a folder that you can write", err)
	}
	defer os.RemoveAll(stage)
	m, err := fetch(stage)
	if err != nil {
		return "", err
	}
	if err := s.commit(stage, m); err != nil {
		return "", hintDiskFull(err, s.plugins)
	}
	return s.installed(ctx)
}

// lock takes the slot's lock, which the kernel frees when a process dies.
func (s pluginSlot) lock(ctx context.Context, r installReporter) (unlock func(), err error) {
	lock := flock.New(filepath.Join(s.plugins, "."+s.name+".lock"))
	held, err := lock.TryLock()
	if err == nil && !held {
		r.say("another process is installing %s: waiting for it", s.name)
		held, err = lock.TryLockContext(ctx, 100*time.Millisecond)
	}
	if err == nil && !held {
		err = errors.New("not granted")
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	return func() { lock.Close() }, nil
}

// removeLeftovers deletes what killed installations left behind. The caller holds the lock.
func (s pluginSlot) removeLeftovers() error {
	old, err := filepath.Glob(filepath.Join(s.plugins, "."+s.name+".new-*"))
	if err != nil {
		return fmt.Errorf("list %s: %w", s.plugins, err)
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove an unfinished install: %w", err)
		}
	}
	return nil
}

// commit writes the mark into stage and renames stage to the slot's folder.
func (s pluginSlot) commit(stage string, m installMark) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if _, err := writeSynced(filepath.Join(stage, markFile), func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	}); err != nil {
		return err
	}
	if err := os.Chmod(stage, 0o755); err != nil {
		return err
	}
	if err := disk.SyncDir(stage); err != nil {
		return err
	}
	if err := os.RemoveAll(s.dir()); err != nil { // exists only if damaged
		return err
	}
	if err := os.Rename(stage, s.dir()); err != nil {
		return err
	}
	return disk.SyncDir(s.plugins)
}

// writeSynced creates a file, calls fill to write it, and returns its size once it is synced.
func writeSynced(path string, fill func(io.Writer) error) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	if err := fill(f); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return f.Seek(0, io.SeekCurrent)
}

// checkFree fails if dir's disk is known to have less than need bytes free.
func checkFree(dir string, need int64) error {
	free, _, err := disk.Space(dir)
	if err != nil || free >= need {
		return nil // if unknown, writing will fail on a full disk
	}
	return hintDiskFull(fmt.Errorf("%d MB needed, %d MB free: %w", need/1e6, free/1e6, syscall.ENOSPC), dir)
}

// hintDiskFull adds what to do to an error that came from a full disk.
func hintDiskFull(err error, dir string) error {
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return fmt.Errorf("%w: free some space on the disk of %s, or set LIMNER_CACHE to a folder on another one", err, dir)
}
