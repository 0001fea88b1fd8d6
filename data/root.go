package data

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"limner/data/imaging"
	"limner/internal/disk"
)

// root is the folder below which the files lie that a dataset names. A stranger's metadata must not reach others.
type root struct {
	dir     string
	given   bool     // by image_root, not the folder of what names the files
	allowed []string // where files may lie, without links

	mu   sync.Mutex
	real map[string]string // of folders, their paths without links
}

// newRoot is the root of what lies in dir: dir itself or, if it is given, imageRoot.
func newRoot(dir, imageRoot string) (*root, error) {
	r := &root{dir: dir, real: map[string]string{}}
	if imageRoot != "" {
		r.dir, r.given = imageRoot, true
	}
	if err := r.allow(r.dir); err != nil {
		return nil, fmt.Errorf("image_root: %w", err)
	}
	return r, nil
}

// allow lets files lie in dir, too. In the cache of the Hugging Face Hub, snapshots/<commit> has links to ../../blobs.
func (r *root) allow(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return err
	}
	r.allowed = append(r.allowed, real)
	parts := strings.Split(real, string(filepath.Separator))
	for i := len(parts) - 2; i > 0; i-- {
		if parts[i] == "snapshots" {
			repo := strings.Join(parts[:i], string(filepath.Separator))
			r.allowed = append(r.allowed, filepath.Join(repo, "blobs"))
			break
		}
	}
	return nil
}

// find is where the file of a name lies, and its size. It fails for names and links that leave the root, and for what
// is no regular file of an image's size.
func (r *root) find(name string) (path string, size int64, err error) {
	local := filepath.FromSlash(name)
	if r.given && filepath.IsAbs(local) {
		if relative, err := filepath.Rel(r.dir, local); err == nil {
			local = relative
		}
	}
	if !filepath.IsLocal(local) {
		return "", 0, fmt.Errorf("%s: want a path within the folder: absolute paths and .. are refused unless they "+
			"lie below --image_root", name)
	}
	path = filepath.Join(r.dir, local)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", 0, missingFile{name, path}
	case err != nil:
		return "", 0, err // names the file
	case !info.Mode().IsRegular():
		return "", 0, fmt.Errorf("%s: %w", path, disk.ErrNotRegular)
	case info.Size() > imaging.MaxFileBytes:
		return "", 0, fmt.Errorf("%s: %d bytes, at most %d are read of an image",
			path, info.Size(), imaging.MaxFileBytes)
	}
	return path, info.Size(), r.check(path)
}

// missingFile is the error for a file that is not there.
type missingFile struct{ name, path string }

func (m missingFile) Error() string {
	return fmt.Sprintf("%s is missing: there is no %s; names lie below the folder of the file that has them, or below "+
		"--image_root", m.name, m.path)
}

// Is says that the error is [fs.ErrNotExist].
func (m missingFile) Is(target error) bool { return target == fs.ErrNotExist }

// check fails for a file that links lead to outside of what is allowed.
func (r *root) check(path string) error {
	real, err := r.realPath(path)
	if err != nil {
		return err
	}
	for _, dir := range r.allowed {
		if relative, err := filepath.Rel(dir, real); err == nil && filepath.IsLocal(relative) {
			return nil
		}
	}
	return fmt.Errorf("%s is a link to %s: links that leave the folder are refused unless they lead below "+
		"--image_root", path, real)
}

// realPath is a file's path without links; those of folders are resolved once.
func (r *root) realPath(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", err
		}
		return filepath.Abs(path)
	}
	dir := filepath.Dir(path)
	r.mu.Lock()
	defer r.mu.Unlock()
	real, ok := r.real[dir]
	if !ok {
		if real, err = filepath.EvalSymlinks(dir); err == nil {
			real, err = filepath.Abs(real)
		}
		if err != nil {
			return "", err
		}
		r.real[dir] = real
	}
	return filepath.Join(real, filepath.Base(path)), nil
}
