package hub

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"limner/internal/disk"
)

// repoCache is a repo's place in the cache, laid out as Python's huggingface_hub does:
//
//	models--org--name/blobs/<etag>               the bytes of a file; a dataset's folder is datasets--org--name
//	models--org--name/blobs/<etag>.incomplete    a prefix of them
//	models--org--name/snapshots/<commit>/<path>  a relative link to a blob
//	models--org--name/refs/<revision>            the commit of a branch or tag
//	.locks/models--org--name/<etag>.lock         held while a blob is written
type repoCache struct{ dir, locks string }

func (r repoCache) blob(etag string) string       { return filepath.Join(r.dir, "blobs", etag) }
func (r repoCache) snapshot(commit string) string { return filepath.Join(r.dir, "snapshots", commit) }
func (r repoCache) pointer(commit, path string) string {
	return filepath.Join(r.snapshot(commit), filepath.FromSlash(path))
}

// has says whether a file is there in its full size. Some systems have it there without a link.
func (r repoCache) has(commit string, f file) bool { return hasSize(r.pointer(commit, f.path), f.size) }

func hasSize(path string, size int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// lock takes a blob's lock, which Python takes too and which the kernel frees when a process dies.
func (r repoCache) lock(ctx context.Context, etag string, waiting func()) (unlock func(), err error) {
	if err := os.MkdirAll(r.locks, 0o777); err != nil {
		return nil, hintCache(err)
	}
	lock := flock.New(filepath.Join(r.locks, etag+".lock"), flock.SetPermissions(0o664))
	held, err := lock.TryLock()
	if err == nil && !held {
		waiting()
		held, err = lock.TryLockContext(ctx, 100*time.Millisecond)
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && !held:
		err = errors.New("not granted")
	}
	if err != nil {
		lock.Close()
		return nil, hintCache(fmt.Errorf("lock %s: %w", lock.Path(), err))
	}
	return func() { lock.Close() }, nil
}

// link makes the snapshot's path point to a blob.
func (r repoCache) link(commit string, f file) error {
	pointer := r.pointer(commit, f.path)
	target, err := filepath.Rel(filepath.Dir(pointer), r.blob(f.etag))
	if err != nil {
		return err
	}
	if old, err := os.Readlink(pointer); err == nil && old == target {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(pointer), 0o777); err != nil {
		return hintCache(err)
	}
	if err := disk.ReplaceLink(target, pointer); err != nil {
		return fmt.Errorf("%w: set HF_HUB_CACHE to a folder that you can write, on a disk that has symbolic links", err)
	}
	return nil
}

// maxRef is more bytes than a file of refs has.
const maxRef = 1024

// writeRef notes which commit a branch or tag is.
func (r repoCache) writeRef(revision, commit string) error {
	if revision == commit {
		return nil
	}
	path := filepath.Join(r.dir, "refs", filepath.FromSlash(revision))
	if old, err := disk.ReadFile(path, maxRef); err == nil && string(old) == commit {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return disk.WriteFile(path, []byte(commit), 0o644)
}

// localCommit is a folder name below snapshots, whoever wrote it.
var localCommit = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)

// commitOf finds the commit of a revision in the cache.
func (r repoCache) commitOf(revision string) (string, error) {
	data, err := disk.ReadFile(filepath.Join(r.dir, "refs", filepath.FromSlash(revision)), maxRef)
	commit := string(bytes.TrimSpace(data))
	switch {
	case errors.Is(err, fs.ErrNotExist) && commitPattern.MatchString(revision):
		commit = revision
	case err != nil:
		return "", err
	}
	if !localCommit.MatchString(commit) {
		return "", fmt.Errorf("the cache's note of %s is no commit: %.50q", revision, commit)
	}
	return commit, nil
}

// open finds a model or a dataset in the cache without asking anybody. A folder that lacks something is an error.
func (r repoCache) open(ref Ref, s Selection) (Snapshot, error) {
	commit, err := r.commitOf(ref.Revision)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Snapshot{}, r.explainAbsence(ref)
	case err != nil:
		return Snapshot{}, fmt.Errorf("look for %s in the cache: %w", ref, err)
	}
	files, err := r.list(commit)
	if err != nil {
		return Snapshot{}, fmt.Errorf("look for %s in the cache: %w", ref, err)
	}
	if len(files) == 0 {
		return Snapshot{}, r.explainAbsence(ref)
	}
	var index []byte
	if !ref.Dataset {
		if index, err = r.readIndex(commit); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Snapshot{}, err
		}
	}
	choice, err := s.choose(files, ref, index)
	if err != nil {
		return Snapshot{}, fmt.Errorf("%s in the cache: %w", ref, err)
	}
	if len(choice.missing) > 0 {
		return Snapshot{}, fmt.Errorf("%s is only in part in the cache %s: %s missing",
			ref, r.snapshot(commit), few(choice.missing))
	}
	return r.snapshotOf(commit, choice), nil
}

func (r repoCache) snapshotOf(commit string, c choice) Snapshot {
	s := Snapshot{Dir: r.snapshot(commit), Path: r.pointer(commit, c.path), Commit: commit}
	for _, f := range c.files {
		s.Files = append(s.Files, f.path)
	}
	return s
}

// explainAbsence says how much of a revision there is.
func (r repoCache) explainAbsence(ref Ref) error {
	if commits := r.commits(); len(commits) > 0 {
		return fmt.Errorf("revision %s of %s is not whole in the cache %s, which has the revisions %s: "+
			"one of them is taken as %s@%s",
			ref.Revision, ref.Repo, r.dir, few(commits), ref.Repo, commits[0])
	}
	for _, pattern := range []string{"snapshots/*", "blobs/*.incomplete"} {
		if found, err := filepath.Glob(filepath.Join(r.dir, filepath.FromSlash(pattern))); err == nil &&
			len(found) > 0 {
			return fmt.Errorf("revision %s of %s is not whole in the cache %s", ref.Revision, ref.Repo, r.dir)
		}
	}
	return fmt.Errorf("%s is not in the cache %s", ref, filepath.Dir(r.dir))
}

// commits lists the revisions that have files in the cache, whether a branch or tag is known to be them or not, the
// latest first.
func (r repoCache) commits() []string {
	entries, err := os.ReadDir(filepath.Join(r.dir, "snapshots"))
	if err != nil {
		return nil
	}
	written := map[string]time.Time{}
	for _, e := range entries {
		if !commitPattern.MatchString(e.Name()) {
			continue
		}
		files, err := r.list(e.Name())
		if info, infoErr := e.Info(); err == nil && infoErr == nil && len(files) > 0 {
			written[e.Name()] = info.ModTime()
		}
	}
	return slices.SortedFunc(maps.Keys(written), func(a, b string) int {
		return cmp.Or(written[b].Compare(written[a]), strings.Compare(a, b))
	})
}

// list finds the files of a snapshot that are whole: links to nothing do not count.
func (r repoCache) list(commit string) ([]file, error) {
	var files []file
	root := r.snapshot(commit)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			files = append(files, file{path: filepath.ToSlash(name), size: info.Size()})
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return files, err
}

func (r repoCache) readIndex(commit string) ([]byte, error) {
	return disk.ReadFile(r.pointer(commit, "model_index.json"), 1<<20)
}

// few lists some names of many.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// hintCache adds what to do to an error of writing to the cache.
func hintCache(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), isReadOnly(err):
		return fmt.Errorf("%w: set HF_HUB_CACHE to a folder that you can write", err)
	case isFull(err):
		return fmt.Errorf("%w: free some space on the cache's disk, or set HF_HUB_CACHE to a folder on another one",
			err)
	}
	return err
}
